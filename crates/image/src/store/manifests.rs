//! The manifest of a container's image.

use std::collections::HashMap;

use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::{
    Container as Record, Info, InfoRequest, ListContentRequest, ListImagesRequest,
};
use oci_spec::image::{Descriptor, MediaType};
use rule::{Index, Kind, Manifest, Platform, by_choice, by_preference, kind};
use tonic::Response;

use super::requested::{Name, RequestedImage, readable_names};
use super::{Store, descriptor};
use crate::{Error, limits};

/// Reasons why there is no manifest.
const NO_IMAGE: &str = "containerd knows no image of this container";
const NO_MANIFEST: &str = "the image's manifest is not in containerd's content store";

/// Labels by which a manifest in containerd's store refers to its config. The first is for a config of a known type. The
/// second is for any other config, which is the first of the manifest's children (`images.ChildGCLabels`).
const CONFIG_LABELS: [&str; 2] =
    ["containerd.io/gc.ref.content.config", "containerd.io/gc.ref.content.0"];

/// Media types for content whose type is unknown, because containerd's store does not record types. It does not matter
/// which of a type's names the content had.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

impl Store {
    /// Returns the manifest of a container's image, or why there is none.
    ///
    /// # Errors
    /// [`Error::Pinned`] and [`Error::Ambiguous`] if it is not clear which image the Pod asks for.
    pub async fn manifest_of(
        &self,
        record: &Record,
    ) -> Result<Result<Manifest, &'static str>, Error> {
        let Some(requested) = RequestedImage::of(record)? else {
            return self.by_recorded_name(record, None).await;
        };
        if let Some(name) = &requested.name
            && let Some(manifest) = self.by_requested_name(name, &requested.config).await?
        {
            return Ok(Ok(manifest));
        }
        // The name refers to another image by now, or CRI received only the image's id.
        match self.by_config(&requested).await? {
            Some(manifest) => Ok(Ok(manifest)),
            None => self.by_recorded_name(record, Some(&requested.config)).await,
        }
    }

    /// Returns the config of a container's image. Returns `None` if containerd does not have it.
    pub async fn config(&self, record: &Record) -> Result<Option<Descriptor>, Error> {
        let Some(requested) = RequestedImage::of(record)? else {
            let manifest = self.by_recorded_name(record, None).await?.ok();
            let config = manifest.filter(Manifest::is_image).map(|it| it.config);
            return Ok(config);
        };
        let mut content = ContentClient::new(self.channel.clone());
        let request = self.request(InfoRequest { digest: requested.config })?;
        let answer = self.answer(content.info(request)).await?;
        let info = answer.and_then(|answer| answer.info);
        info.map(|info| described(info, CONFIG)).transpose()
    }

    /// Returns the manifest of the image whose name is in containerd's record.
    async fn by_recorded_name(
        &self,
        record: &Record,
        config: Option<&str>,
    ) -> Result<Result<Manifest, &'static str>, Error> {
        let Some(target) = self.image(record.image.clone()).await? else {
            return Ok(Err(NO_IMAGE));
        };
        Ok(self.manifest(target, config).await?.ok_or(NO_MANIFEST))
    }

    /// Returns the manifest of the image whose name the Pod specifies. Returns `None` if the image of that name has another
    /// config by now.
    async fn by_requested_name(
        &self,
        name: &Name,
        config: &str,
    ) -> Result<Option<Manifest>, Error> {
        let is_pinned = |target: &Descriptor| {
            name.digest.as_ref().is_none_or(|digest| target.digest().as_ref() == digest)
        };
        let mut target = self.image(name.text.clone()).await?.filter(is_pinned);
        if let (None, Some(digest)) = (&target, &name.digest) {
            target = self.images(&[digest]).await?.into_iter().map(|(_, target)| target).next();
        }
        let manifest = match target {
            Some(target) => self.manifest(target, Some(config)).await?,
            None => None,
        };
        match (&manifest, &name.digest) {
            (None, Some(_)) => {
                let (image, config) = (name.text.clone(), config.to_owned());
                Err(Error::Pinned { image, config })
            }
            _ => Ok(manifest),
        }
    }

    /// Returns the only manifest with the config, or one of several with the same wasm layers. Returns `None` if there is
    /// none.
    async fn by_config(&self, requested: &RequestedImage) -> Result<Option<Manifest>, Error> {
        let mut found: HashMap<Vec<String>, (String, Manifest)> = HashMap::new();
        for (entry, manifest) in self.with_config(&requested.config).await? {
            let layers = rule::wasm_layers(&manifest)?;
            let layers = layers.iter().map(|layer| layer.digest().to_string()).collect();
            found.entry(layers).or_insert_with(|| (entry.digest().to_string(), manifest));
        }
        if found.len() > 1 {
            let digests: Vec<_> = found.values().map(|(digest, _)| digest).collect();
            return Err(self.ambiguous(requested, &digests).await?);
        }
        Ok(found.into_values().next().map(|(_, manifest)| manifest))
    }

    /// Error for several manifests with the same config.
    async fn ambiguous(
        &self,
        requested: &RequestedImage,
        manifests: &[&String],
    ) -> Result<Error, Error> {
        let mut names: HashMap<String, Vec<String>> =
            manifests.iter().map(|&digest| (digest.clone(), vec![])).collect();
        for (name, target) in self.images(manifests).await? {
            names.entry(target.digest().to_string()).or_default().push(name);
        }
        let why = match &requested.name {
            Some(name) => format!("{} is no longer the name of any of them", name.text),
            None => {
                "CRI's record has no image name (containerd before 2.0 records none)".to_owned()
            }
        };
        Ok(Error::Ambiguous {
            config: requested.config.clone(),
            images: readable_names(&names),
            why,
        })
    }

    /// Returns the manifests in containerd's store that have this config.
    async fn with_config(&self, config: &str) -> Result<Vec<(Descriptor, Manifest)>, Error> {
        let mut found = Vec::new();
        for entry in self.referring_to(config).await? {
            let manifest = match self.json::<Manifest>(&entry).await {
                // Content can have the label and another form, such as an artifact's own. It is not a manifest.
                Err(Error::Content { .. }) => None,
                read => read?,
            };
            if let Some(manifest) = manifest.filter(|it| is_of(it, Some(config))) {
                found.push((entry, manifest));
            }
        }
        Ok(found)
    }

    /// Returns descriptors of content whose labels refer to this config.
    async fn referring_to(&self, config: &str) -> Result<Vec<Descriptor>, Error> {
        let filter = |label: &&str| format!("labels.{label:?}=={config:?}");
        let filters = CONFIG_LABELS.iter().map(filter).collect();
        let mut content = ContentClient::new(self.channel.clone());
        let request = self.request(ListContentRequest { filters })?;
        let mut found = Vec::new();
        let Some(mut parts) = self.answer(content.list(request)).await? else { return Ok(found) };
        loop {
            let next = async { parts.message().await.map(Response::new) };
            let Some(Some(part)) = self.answer(next).await? else { return Ok(found) };
            for info in part.info {
                found.push(described(info, MANIFEST)?);
            }
            if found.len() > limits::MANIFESTS {
                let reason = format!("more than {} manifests have this config", limits::MANIFESTS);
                return Err(Error::content(config, reason));
            }
        }
    }

    /// Returns the names and targets of the images that have one of these targets.
    async fn images(&self, targets: &[&String]) -> Result<Vec<(String, Descriptor)>, Error> {
        let filters = targets.iter().map(|digest| format!("target.digest=={digest:?}")).collect();
        let mut images =
            ImagesClient::new(self.channel.clone()).max_decoding_message_size(limits::ANSWER_BYTES);
        let request = self.request(ListImagesRequest { filters })?;
        let answer = self.answer(images.list(request)).await?.unwrap_or_default();
        let mut found = Vec::new();
        for image in answer.images {
            if let Some(target) = image.target {
                found.push((image.name, descriptor(target)?));
            }
        }
        Ok(found)
    }

    /// Searches indexes for the manifest with this config. If `config` is `None`, returns the preferred one of the manifests
    /// that were pulled.
    async fn manifest(
        &self,
        target: Descriptor,
        config: Option<&str>,
    ) -> Result<Option<Manifest>, Error> {
        let mut pending = vec![(target, 0)];
        while let Some((entry, depth)) = pending.pop() {
            match kind(entry.media_type().as_ref()) {
                Kind::Manifest => match self.json::<Manifest>(&entry).await? {
                    Some(manifest) if is_of(&manifest, config) => return Ok(Some(manifest)),
                    Some(_) | None => continue,
                },
                Kind::Index if depth >= limits::INDEX_DEPTH => {
                    let reason = format!("the index is inside {} others", limits::INDEX_DEPTH);
                    return Err(Error::content(entry.digest(), reason));
                }
                Kind::Index => {
                    let Some(index) = self.json::<Index>(&entry).await? else { continue };
                    let entries = match config {
                        Some(_) => by_choice(&Platform::here(), &index),
                        None => by_preference(&index),
                    };
                    let entries = entries.into_iter().rev();
                    pending.extend(entries.map(|entry| (entry.clone(), depth + 1)));
                }
                Kind::Other => {}
            }
        }
        Ok(None)
    }
}

fn is_of(manifest: &Manifest, config: Option<&str>) -> bool {
    config.is_none_or(|config| manifest.config.digest().as_ref() == config)
}

/// Makes a descriptor of content in the store. The caller provides the type, because the store does not record it.
fn described(info: Info, media_type: &str) -> Result<Descriptor, Error> {
    let refused = |reason: String| Error::content(&info.digest, reason);
    let digest: oci_spec::image::Digest =
        info.digest.parse().map_err(|error| refused(format!("{error}")))?;
    let size = info.size.try_into().map_err(|_| refused(format!("{} bytes", info.size)))?;
    Ok(Descriptor::new(MediaType::from(media_type), size, digest))
}
