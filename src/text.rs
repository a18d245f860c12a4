//! Words for people: how errors and reports quote what others wrote.

/// At most 100 characters of a text that others wrote, on one line and without control characters.
pub fn excerpt(text: &str) -> String {
    let mut short: String = text
        .chars()
        .flat_map(char::escape_debug)
        .take(100)
        .collect();
    if text.chars().nth(100).is_some() {
        short.push('…');
    }
    short
}

/// The first three of a list that may be long, and how many more there are.
pub fn first_three(items: &[String], separator: &str) -> String {
    match items {
        [a, b, c, rest @ ..] if !rest.is_empty() => {
            format!(
                "{}{separator}and {} more",
                [a.as_str(), b, c].join(separator),
                rest.len()
            )
        }
        few => few.join(separator),
    }
}
