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

use super::asked::{Asked, Name, shown};
use super::{Store, descriptor};
use crate::{Error, limits};

/// Why there is none.
const NO_IMAGE: &str = "containerd knows no image of this container";
const NO_MANIFEST: &str = "the image's manifest is not in containerd's content store";

/// The labels by which a manifest in containerd's store refers to its config: of a known type, and of any other, which
/// is the first of its children (`images.ChildGCLabels`).
const CONFIG_LABELS: [&str; 2] =
    ["containerd.io/gc.ref.content.config", "containerd.io/gc.ref.content.0"];

/// containerd's store does not know the types of its content. It does not matter which of its names one had.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

impl Store {
    /// The manifest that a container is of, or why there is none.
    ///
    /// # Errors
    /// [`Error::Pinned`] and [`Error::Ambiguous`] where it cannot be told what was asked for.
    pub async fn manifest_of(
        &self,
        record: &Record,
    ) -> Result<Result<Manifest, &'static str>, Error> {
        let Some(asked) = Asked::of(record)? else {
            return self.named(record, None).await;
        };
        if let Some(name) = &asked.name
            && let Some(manifest) = self.asked_by_name(name, &asked.config).await?
        {
            return Ok(Ok(manifest));
        }
        // The name was given to another image since, or CRI was told the id alone.
        match self.only_one(&asked).await? {
            Some(manifest) => Ok(Ok(manifest)),
            None => self.named(record, Some(&asked.config)).await,
        }
    }

    /// The config of a container's image; none where containerd knows of none.
    pub async fn config(&self, record: &Record) -> Result<Option<Descriptor>, Error> {
        let Some(asked) = Asked::of(record)? else {
            let manifest = self.named(record, None).await?.ok();
            let config = manifest.filter(Manifest::is_image).map(|it| it.config);
            return Ok(config);
        };
        let mut content = ContentClient::new(self.channel.clone());
        let request = self.request(InfoRequest { digest: asked.config })?;
        let answer = self.answer(content.info(request)).await?;
        let info = answer.and_then(|answer| answer.info);
        info.map(|info| described(info, CONFIG)).transpose()
    }

    /// By the name that containerd's record has.
    async fn named(
        &self,
        record: &Record,
        config: Option<&str>,
    ) -> Result<Result<Manifest, &'static str>, Error> {
        let Some(target) = self.image(record.image.clone()).await? else {
            return Ok(Err(NO_IMAGE));
        };
        Ok(self.manifest(target, config).await?.ok_or(NO_MANIFEST))
    }

    /// By the name that was asked for; none where the image of that name has another config by now.
    async fn asked_by_name(&self, name: &Name, config: &str) -> Result<Option<Manifest>, Error> {
        let is_it = |target: &Descriptor| {
            name.digest.as_ref().is_none_or(|digest| target.digest().as_ref() == digest)
        };
        let mut target = self.image(name.text.clone()).await?.filter(is_it);
        if let (None, Some(digest)) = (&target, &name.digest) {
            target = self.images(&[digest]).await?.into_iter().map(|(_, target)| target).next();
        }
        let manifest = match target {
            Some(target) => self.manifest(target, Some(config)).await?,
            None => None,
        };
        match (&manifest, &name.digest) {
            (None, Some(_)) => {
                let (asked, config) = (name.text.clone(), config.to_owned());
                Err(Error::Pinned { asked, config })
            }
            _ => Ok(manifest),
        }
    }

    /// The one manifest with that config, or one of several with the same wasm layers; none where none is found.
    async fn only_one(&self, asked: &Asked) -> Result<Option<Manifest>, Error> {
        let mut found: HashMap<Vec<String>, (String, Manifest)> = HashMap::new();
        for (entry, manifest) in self.with_config(&asked.config).await? {
            let layers = rule::wasm_layers(&manifest)?;
            let layers = layers.iter().map(|layer| layer.digest().to_string()).collect();
            found.entry(layers).or_insert_with(|| (entry.digest().to_string(), manifest));
        }
        if found.len() > 1 {
            let digests: Vec<_> = found.values().map(|(digest, _)| digest).collect();
            return Err(self.ambiguous(asked, &digests).await?);
        }
        Ok(found.into_values().next().map(|(_, manifest)| manifest))
    }

    async fn ambiguous(&self, asked: &Asked, manifests: &[&String]) -> Result<Error, Error> {
        let mut names: HashMap<String, Vec<String>> =
            manifests.iter().map(|&digest| (digest.clone(), vec![])).collect();
        for (name, target) in self.images(manifests).await? {
            names.entry(target.digest().to_string()).or_default().push(name);
        }
        let why = match &asked.name {
            Some(name) => format!("{} is the name of none of them any more", name.text),
            None => "containerd was told no name (before 2.0 it takes none)".to_owned(),
        };
        Ok(Error::Ambiguous { config: asked.config.clone(), images: shown(&names), why })
    }

    /// The manifests in containerd's store that have that config.
    async fn with_config(&self, config: &str) -> Result<Vec<(Descriptor, Manifest)>, Error> {
        let mut found = Vec::new();
        for entry in self.referring_to(config).await? {
            let manifest = match self.json::<Manifest>(&entry).await {
                // What has the label and another form, such as an artifact's own, is none.
                Err(Error::Content { .. }) => None,
                read => read?,
            };
            if let Some(manifest) = manifest.filter(|it| is_of(it, Some(config))) {
                found.push((entry, manifest));
            }
        }
        Ok(found)
    }

    /// Content that says by its labels that it has that config.
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

    /// The images with one of these targets, with their names.
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

    /// Walks down to the manifest with that config, or, without one, to the one to prefer of those that are there.
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

/// The descriptor of content in the store, which does not know its type.
fn described(info: Info, media_type: &str) -> Result<Descriptor, Error> {
    let refused = |reason: String| Error::content(&info.digest, reason);
    let digest: oci_spec::image::Digest =
        info.digest.parse().map_err(|error| refused(format!("{error}")))?;
    let size = info.size.try_into().map_err(|_| refused(format!("{} bytes", info.size)))?;
    Ok(Descriptor::new(MediaType::from(media_type), size, digest))
}
