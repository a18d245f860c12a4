//! Words for people: how errors and reports quote what others wrote.

/// At most 100 characters of a text that others wrote, as [`one_line`] shows them.
pub fn excerpt(text: &str) -> String {
    one_line(text, 100)
}

/// At most so many characters of a text, without what ends a line, controls a terminal, or has the
/// rest of the line shown in another order.
pub fn one_line(text: &str, most: usize) -> String {
    let mut short = String::new();
    let mut length = 0;
    for c in text.chars() {
        let shown = if is_unfit(c) {
            c.escape_debug().to_string()
        } else {
            c.to_string()
        };
        length += shown.chars().count();
        if length > most {
            short.push('…');
            break;
        }
        short.push_str(&shown);
    }
    short
}

/// The control characters, Unicode's own line breaks, and its marks that turn the direction of a text.
fn is_unfit(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
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

/// A clause as a sentence: with a capital and a full stop.
pub fn sentence(clause: &str) -> String {
    let mut chars = clause.trim_end_matches('.').chars();
    let first = chars.next().into_iter().flat_map(char::to_uppercase);
    first.chain(chars).chain(['.']).collect()
}

/// The texts of an error and of all that caused it, joined by colons.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
