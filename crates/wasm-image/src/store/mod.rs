//! Stores images on disk. [`layout`] is the form in which this program has every image while it works on it: a
//! directory as in the OCI image specification, "Image Layout". [`archive`] is the same in one tar file. [`blob`]
//! writes one blob and checks its digest.

pub mod archive;
pub mod blob;
pub mod compressed;
pub mod layout;
pub mod output;

pub use layout::Layout;
