//! TLS: which root certificates the function trusts, Amazon's own or those of `AWS_CA_BUNDLE`.

use crate::config::VariableError;
use aws_smithy_http_client::tls::{TlsContext, TrustStore};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// The five roots of Amazon Trust Services. AWS recommends them for private trust stores, and they
/// sign the certificates of its endpoints. Decoding all roots of the system would take longer than
/// the rest of the start-up. A test fails one year before the first root expires; the successors
/// are at <https://www.amazontrust.com/repository>.
const AMAZON: &str = include_str!("tls/amazon.pem");

/// Names a PEM file of root certificates, as for the AWS CLI.
const BUNDLE: &str = "AWS_CA_BUNDLE";

/// The roots to trust in a region, given the value of `AWS_CA_BUNDLE`. An empty value counts as not
/// set.
///
/// A bundle replaces all other roots, so that a proxy or a private CA can take Amazon's place.
/// `Err` if the file cannot be read or contains anything except certificates: the client would
/// panic on it.
pub fn context(bundle: &str, region: &str) -> Result<TlsContext, VariableError> {
    let trusted = match bundle.trim() {
        "" if !has_amazons_roots(region) => Ok(TrustStore::default()),
        "" => Ok(TrustStore::empty().with_pem_certificate(AMAZON)),
        path => read(path).map(|roots| TrustStore::empty().with_pem_certificate(roots)),
    };
    let context = |trusted| TlsContext::builder().with_trust_store(trusted).build();
    trusted
        .and_then(|trusted| context(trusted).map_err(|error| error.to_string()))
        .map_err(|expected| VariableError {
            variable: BUNDLE.to_owned(),
            value: Some(bundle.trim().to_owned()),
            expected,
        })
}

/// Whether a region is in AWS's commercial partition, by the form of its name
/// (<https://docs.aws.amazon.com/global-infrastructure/latest/regions/aws-regions.html>). AWS does
/// not document the roots of its other partitions: China, GovCloud, the European Sovereign Cloud
/// and the isolated ones. There the function uses the system's store.
fn has_amazons_roots(region: &str) -> bool {
    let parts: Vec<&str> = region.split('-').collect();
    let [area, _, number] = parts.as_slice() else {
        return false;
    };
    let areas = ["us", "eu", "ap", "sa", "ca", "me", "af", "il", "mx"];
    areas.contains(area) && number.parse::<u8>().is_ok()
}

fn read(path: &str) -> Result<Vec<u8>, String> {
    let bundle = std::fs::read(path).map_err(|error| format!("it cannot be read: {error}"))?;
    let roots = certificates(&bundle)?;
    if roots.is_empty() {
        return Err("it has no certificate in PEM form".to_owned());
    }
    Ok(bundle)
}

fn certificates(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for (n, certificate) in (1..).zip(CertificateDer::pem_slice_iter(pem)) {
        let certificate = certificate.map_err(|error| format!("it is not PEM: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("its certificate {n} cannot be used: {error}"))?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    #[test]
    fn amazons_five_roots_are_built_in_and_good_for_a_year() {
        assert_eq!(certificates(AMAZON.as_bytes()).unwrap().len(), 5);
        let roots: Vec<_> = CertificateDer::pem_slice_iter(AMAZON.as_bytes())
            .map(Result::unwrap)
            .collect();
        for name in [
            "Amazon Root CA 1",
            "Amazon Root CA 2",
            "Amazon Root CA 3",
            "Amazon Root CA 4",
            "Starfield Services Root Certificate Authority - G2",
        ] {
            let root = roots
                .iter()
                .find(|root| position(root, name.as_bytes()).is_some())
                .unwrap_or_else(|| panic!("there is no `{name}`"));
            assert!(
                expiry(root) > SystemTime::now() + YEAR,
                "`{name}` expires within a year: see {BUNDLE} and `AMAZON`"
            );
        }
    }

    /// The second of the two times of a certificate's validity, `YYMMDDhhmmssZ` each.
    fn expiry(certificate: &[u8]) -> SystemTime {
        let validity = position(certificate, &[0x30, 0x1e, 0x17, 0x0d]).unwrap();
        let until = std::str::from_utf8(&certificate[validity + 19..][..12]).unwrap();
        let part = |n: usize| until.get(2 * n..2 * n + 2).unwrap();
        let [year, month, day] = [part(0), part(1), part(2)];
        let [hour, minute, second] = [part(3), part(4), part(5)];
        let rfc3339 = format!("20{year}-{month}-{day}T{hour}:{minute}:{second}Z");
        humantime::parse_rfc3339(&rfc3339).unwrap()
    }

    fn position(all: &[u8], part: &[u8]) -> Option<usize> {
        all.windows(part.len()).position(|window| window == part)
    }

    #[test]
    fn expiry_is_that_of_the_certificate() {
        let first = CertificateDer::from_pem_slice(AMAZON.as_bytes()).unwrap();
        let expected = humantime::parse_rfc3339("2038-01-17T00:00:00Z").unwrap();
        assert_eq!(expiry(&first), expected);
    }

    /// The trusted certificates as text: `TlsContext` has no other way to show them.
    fn trusted(bundle: &str, region: &str) -> Result<String, String> {
        match context(bundle, region) {
            Ok(trusted) => Ok(format!("{trusted:?}")),
            Err(fault) => Err(fault.to_string()),
        }
    }

    fn only(trusted: TrustStore) -> String {
        let context = TlsContext::builder().with_trust_store(trusted).build();
        format!("{:?}", context.unwrap())
    }

    fn file(name: &str, content: &[u8]) -> String {
        let path = std::env::temp_dir().join(format!("{name}-{}.pem", std::process::id()));
        std::fs::write(&path, content).unwrap();
        path.into_os_string().into_string().unwrap()
    }

    #[test]
    fn amazons_roots_are_trusted_where_its_own_certificates_are() {
        let amazons = only(TrustStore::empty().with_pem_certificate(AMAZON));
        for region in [
            "us-east-1",
            "eu-central-2",
            "ap-southeast-7",
            "mx-central-1",
        ] {
            assert_eq!(trusted("", region).as_ref(), Ok(&amazons), "{region}");
            assert_eq!(trusted(" ", region).as_ref(), Ok(&amazons));
        }
        let systems = only(TrustStore::default());
        for region in [
            "cn-north-1",
            "us-gov-west-1",
            "eusc-de-east-1",
            "us-iso-east-1",
            "eu-isoe-west-1",
            "",
        ] {
            assert_eq!(trusted("", region).as_ref(), Ok(&systems), "{region}");
        }
    }

    #[test]
    fn bundle_is_all_that_is_trusted() {
        let (first, _) = AMAZON.split_at(AMAZON.find("-----END").unwrap() + 26);
        let path = file("bundle", first.as_bytes());
        let expected = only(TrustStore::empty().with_pem_certificate(first));
        for region in ["us-east-1", "cn-north-1"] {
            assert_eq!(trusted(&path, region).as_ref(), Ok(&expected));
        }
    }

    #[test]
    fn bundle_that_cannot_be_used_is_a_fault_that_says_why() {
        let begin = "-----BEGIN CERTIFICATE-----\n";
        let end = "-----END CERTIFICATE-----\n";
        let not_base64 = format!("{begin}!!!!\n{end}");
        let no_certificate = format!("{AMAZON}{begin}AAAA\n{end}");
        for (path, why) in [
            ("/nowhere/ca.pem", "it cannot be read: No such file"),
            (&file("empty", b""), "it has no certificate in PEM form"),
            (
                &file("words", b"trust me"),
                "it has no certificate in PEM form",
            ),
            (
                &file("not-base64", not_base64.as_bytes()),
                "it is not PEM: ",
            ),
            (&file("cut", begin.as_bytes()), "it is not PEM: "),
            (
                &file("not-der", no_certificate.as_bytes()),
                "its certificate 6 cannot be used: ",
            ),
        ] {
            let fault = trusted(path, "us-east-1").unwrap_err();
            let start = format!("`AWS_CA_BUNDLE` holds `{path}`: {why}");
            assert!(fault.starts_with(&start), "{fault}");
        }
    }
}
