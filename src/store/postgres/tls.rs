//! TLS: what is looked at of a server's certificate, in the words of libpq's `sslmode`.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::SSLMODES;
use crate::store::StoreError;

/// How far a server is trusted: the words of `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trust {
    /// `disable`: nothing is encrypted.
    Disable,
    /// `prefer`, and `allow`: encrypted where the server can, whoever it is.
    #[default]
    Prefer,
    /// `require`: encrypted, whoever the server is; where there is a file of authorities as `verify-ca`.
    Require,
    /// `verify-ca`: the certificate is signed by somebody who is trusted.
    VerifyCa,
    /// `verify-full`: it is also made out to the host that was asked for.
    VerifyFull,
}

/// Who is trusted to sign a server's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Root {
    /// Whom the system trusts.
    #[default]
    System,
    /// Whose certificates are in this file: `sslrootcert`.
    File(PathBuf),
    /// Whose certificates are in this file, which nobody has named: `~/.postgresql/root.crt`.
    Home(PathBuf),
}

/// Whether a connection is encrypted, and what is looked at of the server's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// How far the server is trusted.
    pub trust: Trust,
    /// Who is trusted to sign its certificate.
    pub root: Root,
}

impl Trust {
    /// What the driver asks the server for.
    pub(super) fn mode(self) -> SslMode {
        match self {
            Self::Disable => SslMode::Disable,
            Self::Prefer => SslMode::Prefer,
            Self::Require | Self::VerifyCa | Self::VerifyFull => SslMode::Require,
        }
    }

    /// The word of `sslmode`, which `from` holds; no message repeats it.
    pub(super) fn of(from: &str, word: &str) -> Result<Self, StoreError> {
        Ok(match word {
            "disable" => Self::Disable,
            "allow" | "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => {
                let words = SSLMODES.join(", ");
                return Err(StoreError::Unusable(format!(
                    "{from}: must be one of {words}"
                )));
            }
        })
    }
}

/// The certificates that the system trusts: read once, for that takes a while.
fn system() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let read = || {
        let mut roots = RootCertStore::empty();
        for certificate in rustls_native_certs::load_native_certs().certs {
            // One that cannot be read is trusted by nobody.
            drop(roots.add(certificate));
        }
        Arc::new(roots)
    };
    Arc::clone(ROOTS.get_or_init(read))
}

impl Tls {
    /// What makes a connection, which is not asked for TLS where that is off.
    pub(super) fn connector(&self) -> Result<MakeRustlsConnect, StoreError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let failed = |e: Error| StoreError::unavailable("setting up TLS", e);
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(failed)?;
        let looks = match (self.trust, &self.root) {
            (Trust::Disable | Trust::Prefer, _) | (Trust::Require, Root::System) => Looks::Nothing,
            (Trust::Require | Trust::VerifyCa, _) => Looks::Signed(self.verifier(&provider)?),
            (Trust::VerifyFull, _) => Looks::All(self.verifier(&provider)?),
        };
        let client = builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier { looks, provider }))
            .with_no_client_auth();
        Ok(MakeRustlsConnect::new(client))
    }

    fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<WebPkiServerVerifier>, StoreError> {
        let roots = self.roots()?;
        WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
            .build()
            .map_err(|e| StoreError::Unusable(format!("sslrootcert: nobody is trusted: {e}")))
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, StoreError> {
        let file = match &self.root {
            Root::System => return Ok(system()),
            Root::File(file) | Root::Home(file) => file,
        };
        let unusable = |why: &dyn std::fmt::Display| {
            StoreError::Unusable(format!("sslrootcert: {}: {why}", file.display()))
        };
        let mut roots = RootCertStore::empty();
        let read = CertificateDer::pem_file_iter(file).map_err(|e| unusable(&e))?;
        for certificate in read {
            let certificate = certificate.map_err(|e| unusable(&e))?;
            roots.add(certificate).map_err(|e| unusable(&e))?;
        }
        if roots.is_empty() {
            return Err(unusable(&"there is no certificate in it"));
        }
        Ok(Arc::new(roots))
    }
}

/// What is looked at of a certificate.
#[derive(Debug)]
enum Looks {
    Nothing,
    /// Who has signed it, and when it ends.
    Signed(Arc<WebPkiServerVerifier>),
    All(Arc<WebPkiServerVerifier>),
}

/// Looks at a certificate; that the server has its key is looked at always.
#[derive(Debug)]
struct Verifier {
    looks: Looks,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let looked = |by: &WebPkiServerVerifier| {
            by.verify_server_cert(certificate, between, name, ocsp, now)
        };
        match &self.looks {
            Looks::Nothing => Ok(ServerCertVerified::assertion()),
            Looks::All(by) => looked(by),
            Looks::Signed(by) => match looked(by) {
                // The name is what is looked at last: all else was right.
                Err(Error::InvalidCertificate(
                    CertificateError::NotValidForName
                    | CertificateError::NotValidForNameContext { .. },
                )) => Ok(ServerCertVerified::assertion()),
                looked => looked,
            },
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Why a server's certificate was refused, for the operator; `None`: it was not.
pub(super) fn refusal(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(one) = cause {
        let inner = one
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
            .and_then(|inner| inner.downcast_ref::<Error>());
        if let Some(Error::InvalidCertificate(why)) = inner.or_else(|| one.downcast_ref()) {
            return Some(match why {
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => format!(
                    "sslmode=verify-full: the server's certificate is made out to another host: {why}"
                ),
                // The other is said of somebody who has only the name of one who is trusted.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    "the server's certificate is signed by nobody who is trusted; name the file with its authority's certificate by sslrootcert"
                        .to_owned()
                }
                why => format!("the server's certificate: {why}"),
            });
        }
        cause = one.source();
    }
    None
}
