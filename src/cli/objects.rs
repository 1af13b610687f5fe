//! Where output files go: the object store that the configuration names.

use super::exit::Failure;
use super::session::Session;
use crate::config::{S3Config, Sse};
use crate::files::{ObjectStore, s3};

impl Session {
    /// The object store that is configured; nothing is asked of it yet.
    pub(super) fn object_store(&self) -> ObjectStore {
        let url = self.config.objects.value.as_str();
        let Some(place) = url.strip_prefix("s3://") else {
            return ObjectStore::folder(url.strip_prefix("file:").unwrap_or(url));
        };
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let S3Config {
            endpoint,
            region,
            path_style,
            sse,
            kms_key,
        } = &self.config.s3;
        let mut options = s3::Options::new(bucket).prefix(prefix);
        if let Some(sse) = sse.value {
            options = options.encryption(match sse {
                Sse::Aes256 => s3::Encryption::Aes256,
                Sse::Kms => s3::Encryption::Kms(kms_key.value.clone()),
            });
        }
        let connection = s3::Connection {
            endpoint: endpoint.value.clone(),
            region: region.value.clone(),
            path_style: path_style.value,
        };
        ObjectStore::s3_at(connection, options)
    }

    /// What to do where the object store cannot be used.
    pub(super) fn mend_objects(&self) -> &'static str {
        if self.config.objects.value.starts_with("s3:") {
            "see that the bucket is there, and that these credentials may read, write, list and delete in it"
        } else {
            "make the folder writable to this user, or name another with --objects"
        }
    }

    /// Whether output files can be written: told before rows run whose files nobody could keep.
    pub(super) async fn check_objects(&self) -> Result<(), Failure> {
        let objects = self.object_store();
        objects.check().await.map_err(|e| {
            let place = objects.place("");
            let place = place.trim_end_matches('/');
            Failure::io(
                format_args!("output files could not be written to {place}"),
                e.source,
            )
        })
    }
}
