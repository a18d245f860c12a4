//! Verifies the AWS Signature Version 4 of a POST.

use crate::fleet::REGION;
use hyper::header::HeaderMap;
use ring::{digest, hmac};

pub const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
pub const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// The parts of an `authorization` header.
pub struct Signature<'a> {
    day: &'a str,
    service: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

/// `Err` if the header is not a signature with our key for this service.
pub fn parse<'a>(authorization: &'a str, service: &'a str) -> Result<Signature<'a>, String> {
    let parts = || {
        let rest = authorization.strip_prefix("AWS4-HMAC-SHA256 ")?;
        let mut parts = rest.split(',').map(str::trim);
        let scope = parts.next()?.strip_prefix("Credential=")?;
        let signed_headers = parts.next()?.strip_prefix("SignedHeaders=")?;
        let signature = parts.next()?.strip_prefix("Signature=")?;
        let scope: Vec<&str> = scope.split('/').collect();
        match scope[..] {
            [KEY_ID, day, REGION, of, "aws4_request"] if of == service => Some(Signature {
                day,
                service,
                signed_headers,
                signature,
            }),
            _ => None,
        }
    };
    parts().ok_or_else(|| format!("not signed for {service}: `{authorization}`"))
}

impl Signature<'_> {
    /// `Err` if the signature is not valid for this call, or does not cover a required header.
    pub fn verify(&self, path: &str, headers: &HeaderMap, body: &[u8]) -> Result<(), String> {
        let names: Vec<&str> = self.signed_headers.split(';').collect();
        for needed in ["host", "x-amz-date", "x-amz-security-token"] {
            if !names.contains(&needed) {
                return Err(format!("`{needed}` is not signed"));
            }
        }
        let value = |name: &str| match headers.get(name).map(|value| value.to_str()) {
            Some(Ok(value)) => Ok(value.trim()),
            _ => Err(format!("the signed header `{name}` is missing")),
        };
        let mut canonical = format!("POST\n{path}\n\n");
        for name in &names {
            canonical += &format!("{name}:{}\n", value(name)?);
        }
        canonical += &format!("\n{}\n{}", self.signed_headers, sha256(body));
        let Self { day, service, .. } = self;
        let scope = format!("{day}/{REGION}/{service}/aws4_request");
        let date = value("x-amz-date")?;
        let text = format!(
            "AWS4-HMAC-SHA256\n{date}\n{scope}\n{}",
            sha256(canonical.as_bytes())
        );
        let key = format!("AWS4{SECRET}").into_bytes();
        let key = [day, REGION, service, "aws4_request", &text]
            .iter()
            .fold(key, |key, part| mac(&key, part));
        match hex(&key) == self.signature {
            true => Ok(()),
            false => Err("the signature is not valid for the call".to_owned()),
        }
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
