//! Text for people: how errors and reports quote foreign text.

/// At most 100 characters of text that others wrote, as [`one_line`] shows it.
pub fn excerpt(text: &str) -> String {
    one_line(text, 100)
}

/// At most `max_chars` characters of a text. Characters that end a line, control a terminal, or
/// reverse the direction of the text are escaped.
pub fn one_line(text: &str, max_chars: usize) -> String {
    let mut short = String::new();
    let mut length = 0;
    for c in text.chars() {
        let shown = if is_unfit(c) {
            c.escape_debug().to_string()
        } else {
            c.to_string()
        };
        length += shown.chars().count();
        if length > max_chars {
            short.push('…');
            break;
        }
        short.push_str(&shown);
    }
    short
}

/// Control characters, Unicode's line breaks, and its marks that change the direction of a text.
fn is_unfit(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// The first three items of a list, and the number of the others.
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

/// `1 record`, `2 records`.
pub fn counted(n: u64, noun: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {noun}{plural}")
}

/// The clause with a capital letter and a full stop.
pub fn sentence(clause: &str) -> String {
    let mut chars = clause.trim_end_matches('.').chars();
    let first = chars.next().into_iter().flat_map(char::to_uppercase);
    first.chain(chars).chain(['.']).collect()
}

/// An error and its chain of causes, joined by colons.
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
