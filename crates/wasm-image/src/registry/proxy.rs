//! Proxies, which the environment names (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`) as it does for other programs.

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::Url;

use super::origin::is_loopback;

/// The proxy by way of which an address is reached, without its password; none for this machine.
pub fn of(url: &Url) -> Option<String> {
    if is_loopback(url.host_str()?) {
        return None;
    }
    let proxy = Matcher::from_env().intercept(&url.as_str().parse().ok()?)?;
    let proxy = proxy.uri();
    Some(format!("{}://{}", proxy.scheme_str()?, proxy.authority()?.as_str().rsplit('@').next()?))
}
