//! What the node's file, an image or a Pod names, key by key.

use provided::{
    ALLOW_CONNECT, ALLOW_HTTP, ALLOW_LISTEN, CONFIG, CORE_DUMP, FILES, GRANT_PROFILE, KEYVALUE,
    KEYVALUE_PASSWORD_FILE, PREFIX, SettingError, Table,
};
use serde::Deserialize;

use crate::text::{Invalid, list};
use crate::{Access, FileGrant, Listen, Origin, Profile, Target};

/// What is named. `None` is a key that is not set, which is not the same as an empty list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Requested {
    /// The profile.
    pub profile: Option<Profile>,
    /// Destinations of sockets.
    pub allow_connect: Option<Vec<Target>>,
    /// Destinations of HTTP requests.
    pub allow_http: Option<Vec<Origin>>,
    /// Where the guest may listen.
    pub allow_listen: Option<Vec<Listen>>,
    /// Directories.
    pub files: Option<Vec<FileGrant>>,
    /// Paths that the runtime itself reads or writes for the guest, by the annotation that names each.
    #[serde(skip)]
    pub used: Vec<(&'static str, FileGrant)>,
    /// Destinations that the runtime itself connects to for the guest, by the annotation that names each.
    #[serde(skip)]
    pub reached: Vec<(&'static str, Target)>,
}

impl Requested {
    /// What annotations or labels of this table name, in their order. Those that are not for this runtime are left out.
    ///
    /// # Errors
    /// The first one that is not known, or not valid.
    pub fn of<'a>(
        table: &Table,
        named: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Result<Requested, SettingError> {
        let mut requested = Requested::default();
        for (key, value) in named.into_iter().filter(|(key, _)| key.starts_with(PREFIX)) {
            table.check(key)?;
            requested.set(key, value).map_err(|invalid| table.refused(key, &invalid.entry))?;
            requested.record_use(key, value);
        }
        Ok(requested)
    }

    /// Sets a key of an annotation or a label. Returns whether there is one of that name.
    ///
    /// # Errors
    /// The entry that is not valid.
    pub fn set(&mut self, key: &str, value: &str) -> Result<bool, Invalid> {
        match key {
            key if key == GRANT_PROFILE.key => self.profile = Some(value.parse()?),
            key if key == ALLOW_CONNECT.key => self.allow_connect = Some(list(value)?),
            key if key == ALLOW_HTTP.key => self.allow_http = Some(list(value)?),
            key if key == ALLOW_LISTEN.key => self.allow_listen = Some(list(value)?),
            key if key == FILES.key => self.files = Some(list(value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Records the path of an annotation by which the runtime reads or writes a file for the guest. Other keys name none, and
    /// a URL is no path.
    pub fn record_use(&mut self, key: &str, path: &str) {
        let uses = [
            (CONFIG, Access::Read),
            (CORE_DUMP, Access::Write),
            (KEYVALUE, Access::Write),
            (KEYVALUE_PASSWORD_FILE, Access::Read),
        ];
        let named = uses.into_iter().find(|(known, _)| *known == key);
        if let Some((key, access)) = named.filter(|_| path.starts_with('/')) {
            self.used.push((key, FileGrant { path: path.into(), access }));
        }
    }

    /// Takes what the other names and this does not.
    #[must_use]
    pub fn or(self, other: &Requested) -> Requested {
        Requested {
            profile: self.profile.or(other.profile),
            allow_connect: self.allow_connect.or_else(|| other.allow_connect.clone()),
            allow_http: self.allow_http.or_else(|| other.allow_http.clone()),
            allow_listen: self.allow_listen.or_else(|| other.allow_listen.clone()),
            files: self.files.or_else(|| other.files.clone()),
            used: self.used,
            reached: self.reached,
        }
    }
}
