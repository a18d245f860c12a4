//! A temporary CA, and its certificate for 127.0.0.1.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::PrivateKeyDer;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub struct Tls {
    pub server: Arc<rustls::ServerConfig>,
    /// The CA only.
    pub ca: PathBuf,
    /// Amazon's roots and the CA. The function has Amazon's roots built in, so it reads about as many as in production.
    pub amazon: PathBuf,
    /// The system's roots and the CA, for peers that read the system's roots in production.
    pub bundle: PathBuf,
}

/// The system's roots in one file, as on Amazon Linux: the paths of Debian and of Fedora.
const SYSTEM_BUNDLES: [&str; 2] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
];

const AMAZON: &str = include_str!("../../../src/tls/amazon.pem");

fn system_bundle() -> Result<PathBuf, String> {
    let bundles = SYSTEM_BUNDLES.iter().map(PathBuf::from);
    bundles.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        format!("the system's root certificates are not in any of {SYSTEM_BUNDLES:?}; install ca-certificates")
    })
}

/// Creates the certificates, with their files in `folder`.
pub fn make(folder: &Path) -> Result<Tls, Box<dyn Error>> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "bench CA");
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(ca, ca_key);

    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(vec!["127.0.0.1".into(), "localhost".into()])?;
    leaf.use_authority_key_identifier_extension = true;
    let leaf = leaf.signed_by(&key, &issuer)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der())?,
        )?;

    let [ca, amazon, bundle] = ["ca.pem", "amazon.pem", "bundle.pem"].map(|name| folder.join(name));
    fs::write(&amazon, format!("{AMAZON}\n{ca_pem}"))?;
    fs::write(
        &bundle,
        fs::read_to_string(system_bundle()?)? + "\n" + &ca_pem,
    )?;
    fs::write(&ca, ca_pem)?;
    Ok(Tls {
        server: Arc::new(server),
        ca,
        amazon,
        bundle,
    })
}
