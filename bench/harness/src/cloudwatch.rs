//! GetMetricData in Smithy's RPC v2 protocol: as much CBOR as its calls and responses need.

pub const PATH: &str = "/service/GraniteServiceVersion20100801/operation/GetMetricData";

/// The IDs of the queries in a call. `Err` if a text is not as expected.
pub fn ids(body: &[u8]) -> Result<Vec<String>, String> {
    let mut key = Vec::new();
    text("Id", &mut key);
    let places = body.windows(key.len()).enumerate();
    let places = places.filter(|(_, window)| *window == key);
    let id = |at: usize| {
        // A text of up to 23 bytes has its length in its first byte.
        let (first, rest) = body.get(at + key.len()..)?.split_first()?;
        let length = first.checked_sub(0x60).filter(|length| *length < 24)?;
        let id = rest.get(..usize::from(length))?;
        Some(String::from_utf8_lossy(id).into_owned())
    };
    let ids: Option<Vec<String>> = places.map(|(at, _)| id(at)).collect();
    ids.filter(|ids| !ids.is_empty())
        .ok_or_else(|| "GetMetricData without readable IDs".to_owned())
}

/// A response with no datapoint for these queries.
pub fn no_datapoints(ids: &[String]) -> Vec<u8> {
    let mut body = vec![0xa1];
    text("MetricDataResults", &mut body);
    // An array of indefinite length.
    body.push(0x9f);
    for id in ids {
        body.push(0xa4);
        for (name, value) in [("Id", id.as_str()), ("StatusCode", "Complete")] {
            text(name, &mut body);
            text(value, &mut body);
        }
        for name in ["Timestamps", "Values"] {
            text(name, &mut body);
            body.push(0x80);
        }
    }
    body.push(0xff);
    body
}

/// Appends a text of up to 23 bytes.
fn text(text: &str, body: &mut Vec<u8>) {
    let length = u8::try_from(text.len()).ok().filter(|length| *length < 24);
    body.push(0x60 + length.expect("a short text"));
    body.extend(text.as_bytes());
}
