//! A DNS server in a Pod's network, whose answers may change from one look-up to the next.

use std::collections::HashMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Packet, QTYPE, RCODE, ResourceRecord, TYPE};

use crate::network::within;
use crate::{RunningPod, command};

/// The port of DNS.
const PORT: u16 = 53;

/// Longest query over UDP (RFC 1035, section 2.3.4).
const LONGEST: usize = 512;

/// How often the server looks whether it should end.
const INTERVAL: Duration = Duration::from_millis(50);

/// What the server knows of a name.
struct Known {
    addresses: Vec<Ipv4Addr>,
    /// Number of look-ups of its addresses so far.
    looked_up: usize,
}

/// The server, which ends when it is dropped.
#[derive(Debug)]
pub struct Dns {
    asked: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Dns {
    /// Starts it at `address`, which the Pod's loopback interface gets, as a node has NodeLocal DNSCache's.
    ///
    /// The first look-up of a name gets its first address, the next one the next address, and after the last one the
    /// first one again. The server knows no other names, and no addresses of IPv6.
    pub fn start(pod: &RunningPod<'_>, address: &str, names: &[(&str, &[&str])]) -> Result<Dns> {
        let mut known = HashMap::new();
        for (name, addresses) in names {
            let addresses: Result<_, _> = addresses.iter().map(|it| it.parse()).collect();
            known.insert((*name).to_owned(), Known { addresses: addresses?, looked_up: 0 });
        }
        let address = address.to_owned();
        let socket = within(&pod.network, move || {
            command::must(&format!("ip address add {address}/32 dev lo"))?;
            Ok(UdpSocket::bind((address.as_str(), PORT))?)
        })?;
        socket.set_read_timeout(Some(INTERVAL))?;
        let (asked, is_over) = (Arc::<Mutex<Vec<String>>>::default(), Arc::default());
        let serving = (Arc::clone(&asked), Arc::clone(&is_over));
        let thread = thread::spawn(move || serve(&socket, known, &serving.0, &serving.1));
        Ok(Dns { asked, is_over, thread: Some(thread) })
    }

    /// Returns the names in the queries so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no thread panics while holding the names").clone()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    socket: &UdpSocket,
    mut known: HashMap<String, Known>,
    asked: &Mutex<Vec<String>>,
    is_over: &AtomicBool,
) {
    let mut query = [0; LONGEST];
    while !is_over.load(Ordering::Relaxed) {
        let Ok((length, client)) = socket.recv_from(&mut query) else { continue };
        match answer(&query[..length], &mut known) {
            Ok((name, answer)) => {
                asked.lock().expect("no thread panics while holding the names").push(name);
                // A client that is gone needs no answer.
                let _ = socket.send_to(&answer, client);
            }
            Err(error) => eprintln!("DNS: {error:#}"),
        }
    }
}

/// Returns the name in a query, and the answer (RFC 1035, section 4).
fn answer(query: &[u8], known: &mut HashMap<String, Known>) -> Result<(String, Vec<u8>)> {
    let mut reply = Packet::parse(query)?.into_reply();
    let question = reply.questions.first().context("a query without a question")?.clone();
    let name = question.qname.to_string();
    match known.get_mut(&name) {
        None => *reply.rcode_mut() = RCODE::NameError,
        Some(known) if question.qtype == QTYPE::TYPE(TYPE::A) => {
            let turn = known.looked_up % known.addresses.len();
            known.looked_up += 1;
            let data = RData::A(known.addresses[turn].into());
            reply.answers.push(ResourceRecord::new(question.qname, CLASS::IN, 0, data));
        }
        Some(_) => {}
    }
    Ok((name, reply.build_bytes_vec()?))
}

#[cfg(test)]
mod tests {
    use simple_dns::{Name, Question};

    use super::*;

    #[test]
    fn each_look_up_gets_the_next_address() -> Result<()> {
        let addresses = vec![Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
        let mut known = HashMap::from([("moving".into(), Known { addresses, looked_up: 0 })]);
        let mut ask = |name, kind: TYPE| -> Result<_> {
            let mut query = Packet::new_query(7);
            let question = Question::new(Name::new(name)?, kind.into(), CLASS::IN.into(), false);
            query.questions.push(question);
            let (asked, answer) = super::answer(&query.build_bytes_vec()?, &mut known)?;
            let answer = Packet::parse(&answer)?;
            assert_eq!((asked.as_str(), answer.id()), (name, 7));
            let addresses = answer.answers.iter().filter_map(|it| match &it.rdata {
                RData::A(address) => Some(Ipv4Addr::from(address.address).to_string()),
                _ => None,
            });
            Ok((answer.rcode(), addresses.collect::<Vec<_>>().join(" ")))
        };
        for expected in ["192.0.2.1", "192.0.2.2", "192.0.2.1"] {
            assert_eq!(ask("moving", TYPE::AAAA)?, (RCODE::NoError, String::new()));
            assert_eq!(ask("moving", TYPE::A)?, (RCODE::NoError, expected.into()));
        }
        assert_eq!(ask("other", TYPE::A)?, (RCODE::NameError, String::new()));
        Ok(())
    }
}
