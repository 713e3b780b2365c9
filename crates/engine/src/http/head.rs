//! Checks the head of a request: its size, and its authority.

use std::net::SocketAddr;
use std::str::FromStr;

use hyper::header::{HOST, HeaderMap};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Method, Request, Uri, Version};

/// The most headers of a request.
pub const MAX_HEADERS: usize = 100;

/// Overhead of each HTTP/2 field beside name and value (RFC 9113, section 6.5.2).
const FIELD: usize = 32;

/// Reason to refuse a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// The authority is missing, repeated or invalid.
    Host,
    /// It is larger than the limit.
    TooLarge,
}

/// Checks a head, and completes its URI with scheme and authority, because guests of both versions read them there.
///
/// # Errors
/// If no guest may see this head.
pub fn settle<B>(
    request: &mut Request<B>,
    local: Option<SocketAddr>,
    limit: u32,
) -> Result<(), Unfit> {
    // hyper has checked the size of an HTTP/1.1 head.
    if request.version() == Version::HTTP_2 && !is_within(request, limit as usize) {
        return Err(Unfit::TooLarge);
    }
    let host = host(request.headers())?;
    let is_missing = host.is_none() && request.uri().authority().is_none();
    let authority = match request.version() {
        // RFC 9112, section 3.2: required for every form of target.
        Version::HTTP_11 if host.is_none() => return Err(Unfit::Host),
        // RFC 9113, section 8.3.1.
        Version::HTTP_2 if is_missing => return Err(Unfit::Host),
        Version::HTTP_2 if differs(request.uri(), host.as_ref()) => return Err(Unfit::Host),
        _ => request.uri().authority().cloned().or_else(|| host.and_then(|host| host.0)),
    };
    if request.method() == Method::CONNECT {
        return Ok(());
    }
    let authority = match authority {
        Some(authority) => authority,
        // RFC 9112, section 3.3: the default is the address of the server.
        None => local_authority(local).ok_or(Unfit::Host)?,
    };
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme.get_or_insert(Scheme::HTTP);
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    parts.authority = Some(authority);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Unfit::Host)?;
    Ok(())
}

/// Returns whether a head of HTTP/2 is within the limit.
fn is_within<B>(request: &Request<B>, limit: usize) -> bool {
    let (uri, headers) = (request.uri(), request.headers());
    let path = uri.path_and_query().map_or("", PathAndQuery::as_str);
    let pseudo = [
        (":method", request.method().as_str()),
        (":scheme", uri.scheme_str().unwrap_or_default()),
        (":authority", uri.authority().map_or("", Authority::as_str)),
        (":path", path),
    ];
    let pseudo = pseudo.iter().filter(|(_, value)| !value.is_empty());
    let pseudo: usize = pseudo.map(|(name, value)| name.len() + value.len() + FIELD).sum();
    let fields = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD);
    headers.len() <= MAX_HEADERS && pseudo + fields.sum::<usize>() <= limit
}

/// Value of a Host header: an authority, or empty.
struct Host(Option<Authority>);

/// Returns the Host header, of which there must be at most one (RFC 9112, section 3.2).
fn host(headers: &HeaderMap) -> Result<Option<Host>, Unfit> {
    let mut hosts = headers.get_all(HOST).iter();
    let Some(host) = hosts.next() else { return Ok(None) };
    let text = host.to_str().map_err(|_| Unfit::Host)?;
    if hosts.next().is_some() {
        return Err(Unfit::Host);
    }
    if text.is_empty() {
        return Ok(Some(Host(None)));
    }
    Ok(Some(Host(Some(authority(text).ok_or(Unfit::Host)?))))
}

/// Parses a host with an optional port.
fn authority(text: &str) -> Option<Authority> {
    let after_host = text.rfind(']').map_or(text, |end| &text[end + 1..]);
    let is_port = |port: &str| port.is_empty() || port.parse::<u16>().is_ok();
    let has_port = after_host.rsplit_once(':').is_none_or(|(_, port)| is_port(port));
    let authority = Authority::from_str(text).ok()?;
    (has_port && !text.contains('@') && !authority.host().is_empty()).then_some(authority)
}

/// Returns whether the Host header and the target name different hosts.
fn differs(uri: &Uri, host: Option<&Host>) -> bool {
    match (uri.authority(), host) {
        (Some(authority), Some(Host(Some(host)))) => authority != host,
        (Some(_), Some(Host(None))) => true,
        _ => false,
    }
}

fn local_authority(local: Option<SocketAddr>) -> Option<Authority> {
    let local = local?;
    Authority::try_from(SocketAddr::new(local.ip().to_canonical(), local.port()).to_string()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u32 = 64 << 10;

    fn request(version: Version, target: &str, hosts: &[&str]) -> Request<()> {
        let request = Request::builder().version(version).uri(target);
        let request = hosts.iter().fold(request, |request, host| request.header(HOST, *host));
        request.body(()).expect("a request")
    }

    fn settled(version: Version, target: &str, hosts: &[&str]) -> Result<String, Unfit> {
        let mut request = request(version, target, hosts);
        let local = Some("[::ffff:10.0.0.1]:8080".parse().expect("an address"));
        settle(&mut request, local, LIMIT).map(|()| request.uri().to_string())
    }

    #[test]
    fn a_request_is_for_its_target_or_else_for_its_host() {
        let of = |target, hosts: &[&str]| settled(Version::HTTP_11, target, hosts);
        assert_eq!(of("/a?b", &["shop.example:80"]), Ok("http://shop.example:80/a?b".into()));
        assert_eq!(of("/", &["[::1]:80"]), Ok("http://[::1]:80/".into()));
        assert_eq!(of("https://other/a", &["shop.example"]), Ok("https://other/a".into()));
        assert_eq!(of("/", &[""]), Ok("http://10.0.0.1:8080/".into()), "it may be empty");
        assert_eq!(settled(Version::HTTP_10, "/", &[]), Ok("http://10.0.0.1:8080/".into()));
        let http_2 = |target, hosts: &[&str]| settled(Version::HTTP_2, target, hosts);
        assert_eq!(http_2("https://shop/a", &[]), Ok("https://shop/a".into()));
        assert_eq!(http_2("https://shop/a", &["SHOP"]), Ok("https://shop/a".into()));
        assert_eq!(http_2("/a", &["shop"]), Ok("http://shop/a".into()));
    }

    #[test]
    fn a_request_that_does_not_say_for_whom_it_is_is_refused() {
        let of = |target, hosts: &[&str]| settled(Version::HTTP_11, target, hosts);
        assert_eq!(of("/", &[]), Err(Unfit::Host));
        assert_eq!(of("http://shop/", &[]), Err(Unfit::Host));
        assert_eq!(of("/", &["shop", "shop"]), Err(Unfit::Host));
        for host in ["a b", "a/b", "me@shop", "shop:port", "shop:99999", ":80", "[::1"] {
            assert_eq!(of("/", &[host]), Err(Unfit::Host), "{host}");
            assert_eq!(settled(Version::HTTP_10, "/", &[host]), Err(Unfit::Host), "{host}");
            assert_eq!(of("http://shop/", &[host]), Err(Unfit::Host), "{host}");
        }
        assert_eq!(settled(Version::HTTP_2, "/", &[]), Err(Unfit::Host));
        assert_eq!(settled(Version::HTTP_2, "http://shop/", &["other"]), Err(Unfit::Host));
        assert_eq!(settled(Version::HTTP_2, "http://shop/", &["shop", "shop"]), Err(Unfit::Host));
    }

    #[test]
    fn a_head_of_http_2_is_as_large_as_it_may_be_and_no_larger() {
        let own = ":method".len() + "GET".len() + ":scheme".len() + "http".len();
        let own = own + ":authority".len() + "shop".len() + ":path".len() + "/".len() + 4 * FIELD;
        let rest = LIMIT as usize - own - FIELD - "x".len();
        let of = |length: usize| {
            let mut request = request(Version::HTTP_2, "http://shop/", &[]);
            let value = "x".repeat(length).parse().expect("a value");
            request.headers_mut().insert("x", value);
            settle(&mut request, None, LIMIT)
        };
        assert_eq!(of(rest), Ok(()));
        assert_eq!(of(rest + 1), Err(Unfit::TooLarge));
        let mut many = request(Version::HTTP_2, "http://shop/", &[]);
        for number in 0..=MAX_HEADERS {
            let value = number.to_string().parse().expect("a value");
            many.headers_mut().append("x", value);
        }
        assert_eq!(settle(&mut many, None, LIMIT), Err(Unfit::TooLarge));
    }
}
