//! Descriptors by name. They are sent beside the JSON of a message. The JSON lists their names in the order in which
//! they are sent, so that neither side counts positions.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::Error;

/// Descriptors, each with its name. Several have the same name where the receiver takes a list.
#[derive(Debug, Default)]
pub struct Descriptors(Vec<(String, OwnedFd)>);

impl Descriptors {
    /// Pairs received descriptors with the names that their message lists.
    ///
    /// # Errors
    /// [`Error::MissingDescriptor`] or [`Error::SurplusDescriptor`] if there are more of one than of the other.
    pub(crate) fn pair(names: Vec<String>, fds: Vec<OwnedFd>) -> Result<Descriptors, Error> {
        if let Some(missing) = names.get(fds.len()) {
            return Err(Error::MissingDescriptor(missing.clone()));
        }
        if fds.len() > names.len() {
            return Err(Error::SurplusDescriptor(format!("number {}", names.len() + 1)));
        }
        Ok(Descriptors(names.into_iter().zip(fds).collect()))
    }

    /// Adds one.
    pub fn add(&mut self, name: &str, fd: impl Into<OwnedFd>) {
        self.0.push((name.to_owned(), fd.into()));
    }

    /// Takes the first of that name out, if there is one.
    pub fn take(&mut self, name: &str) -> Option<OwnedFd> {
        let place = self.0.iter().position(|(it, _)| it == name)?;
        Some(self.0.remove(place).1)
    }

    /// Takes the first of that name out.
    ///
    /// # Errors
    /// [`Error::MissingDescriptor`].
    pub fn require(&mut self, name: &str) -> Result<OwnedFd, Error> {
        self.take(name).ok_or_else(|| Error::MissingDescriptor(name.to_owned()))
    }

    /// Ends the taking out.
    ///
    /// # Errors
    /// [`Error::SurplusDescriptor`] if one is left.
    pub fn finish(self) -> Result<(), Error> {
        match self.0.into_iter().next() {
            Some((name, _)) => Err(Error::SurplusDescriptor(name)),
            None => Ok(()),
        }
    }

    /// Adds all of `inner` under `prefix`.
    pub(crate) fn add_below(&mut self, prefix: &str, inner: Descriptors) {
        let named = inner.0.into_iter().map(|(name, fd)| (format!("{prefix}{name}"), fd));
        self.0.extend(named);
    }

    /// Takes all out that are under `prefix`.
    pub(crate) fn take_below(&mut self, prefix: &str) -> Descriptors {
        let is_below = |(name, _): &(String, OwnedFd)| name.starts_with(prefix);
        let (inner, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.0).into_iter().partition(is_below);
        self.0 = rest;
        let strip = |(name, fd): (String, OwnedFd)| (name[prefix.len()..].to_owned(), fd);
        Descriptors(inner.into_iter().map(strip).collect())
    }

    /// The names, in the order of [`Descriptors::numbers`].
    pub(crate) fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The numbers of the descriptors in this process.
    pub(crate) fn numbers(&self) -> Vec<RawFd> {
        self.0.iter().map(|(_, fd)| fd.as_raw_fd()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn fd() -> OwnedFd {
        File::open("/dev/null").expect("opened").into()
    }

    fn pair(names: &[&str], fds: usize) -> Result<Descriptors, Error> {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        Descriptors::pair(names, (0..fds).map(|_| fd()).collect())
    }

    #[test]
    fn a_missing_or_surplus_descriptor_is_named() {
        let missing = pair(&["stdin", "console"], 1).expect_err("one is missing").to_string();
        assert_eq!(missing, "descriptor \"console\" is missing from the request");
        let surplus = pair(&["stdin"], 2).expect_err("one has no name").to_string();
        assert!(surplus.contains("\"number 2\""), "{surplus}");
        let mut all = pair(&["stdin", "other"], 2).expect("as many as names");
        let missing = all.require("stdout").expect_err("is not there").to_string();
        assert!(missing.contains("\"stdout\""), "{missing}");
        all.require("stdin").expect("is there");
        let surplus = all.finish().expect_err("one is left").to_string();
        assert!(surplus.contains("\"other\""), "{surplus}");
    }

    #[test]
    fn descriptors_below_a_prefix_come_out_as_they_went_in() {
        let (mut inner, mut all) = (Descriptors::default(), Descriptors::default());
        inner.add("stdin", fd());
        inner.add("layer", fd());
        inner.add("layer", fd());
        let numbers = inner.numbers();
        all.add("stdin", fd());
        all.add_below("guest/", inner);
        assert_eq!(all.names(), ["stdin", "guest/stdin", "guest/layer", "guest/layer"]);
        let mut inner = all.take_below("guest/");
        assert_eq!((inner.numbers(), all.names()), (numbers.clone(), vec!["stdin"]));
        let layers = [(); 2].map(|()| inner.require("layer").expect("is there"));
        assert_eq!(layers.each_ref().map(AsRawFd::as_raw_fd), numbers[1..]);
        assert_eq!(inner.names(), ["stdin"]);
    }
}
