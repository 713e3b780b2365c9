//! Images on disk. [`layout`] is the form in which this program has every image while it works on it: a folder by the
//! OCI image specification, "Image Layout". [`archive`] is the same in one tar file, [`blob`] writes one blob,
//! checked against its digest.

pub mod archive;
pub mod blob;
pub mod compressed;
pub mod layout;
pub mod output;

pub use layout::Layout;
