//! Decides where a registry may send this program by redirects and upload locations, and which server gets the
//! credentials.

use std::net::IpAddr;

use reqwest::Url;
use reqwest::redirect::Policy;

/// An unencrypted place: scheme, host and port. Path and query are left out, because they may contain a secret
/// signature.
#[derive(Debug, thiserror::Error)]
#[error("nothing is encrypted at {0}")]
pub struct Plain(pub String);

/// Returns whether credentials for one URL may be sent to the other.
pub fn same(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

/// Returns whether a registry, given as host and port, is on this machine.
pub fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Fails for a place without HTTPS, unless the registry and the place are both on this machine.
pub fn check(url: &Url, is_plain: bool) -> Result<(), Plain> {
    let port = url.port_or_known_default().unwrap_or_default();
    let is_local = is_loopback(&format!("{}:{port}", url.host_str().unwrap_or_default()));
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_plain && is_local => Ok(()),
        _ => Err(Plain(url.origin().ascii_serialization())),
    }
}

/// Follows redirects as long as they are encrypted.
pub fn redirects(is_plain: bool) -> Policy {
    Policy::custom(move |attempt| match check(attempt.url(), is_plain) {
        Ok(()) => Policy::default().redirect(attempt),
        Err(plain) => attempt.error(plain),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_addresses_are_this_machine_s() {
        for local in ["127.0.0.1:5000", "127.8.8.8", "localhost:1", "localhost", "[::1]:5000"] {
            assert!(is_loopback(local), "{local}");
        }
        for other in ["10.0.0.1:5000", "localhost.example", "registry.example:5000", "128.0.0.1"] {
            assert!(!is_loopback(other), "{other}");
        }
    }

    #[test]
    fn credentials_go_to_their_own_registry_only() {
        let is_same = |a: &str, b: &str| same(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(is_same("https://r.example/v2/", "https://r.example:443/x"));
        assert!(!is_same("https://r.example/", "http://r.example/"));
        assert!(!is_same("https://r.example/", "https://store.example/"));
        assert!(!is_same("https://r.example/", "https://r.example:444/"));
    }

    #[test]
    fn a_registry_does_not_lead_away_from_https() {
        let (encrypted, plain) = (false, true);
        let check = |url: &str, is_plain| check(&url.parse().unwrap(), is_plain);
        assert!(check("https://store.example/x", encrypted).is_ok());
        assert!(check("https://store.example/x", plain).is_ok());
        for local in ["http://127.0.0.1:5000/x", "http://localhost/x", "http://[::1]:5000/x"] {
            assert!(check(local, plain).is_ok(), "{local}");
            assert!(check(local, encrypted).is_err(), "{local}");
        }
        let error = check("http://store.example:80/x?signature=1", plain).unwrap_err();
        assert_eq!(error.0, "http://store.example");
        assert!(check("file:///etc/passwd", plain).is_err());
    }
}
