//! The tokens of a filter.

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A name without quotes, or a keyword.
    Word(String),
    /// A name in quotes, which is never a keyword.
    Quoted(String),
    Text(String),
    Number(String),
    /// `(`, `)`, `,` or a comparison.
    Sign(&'static str),
}

impl Token {
    /// For messages.
    pub fn shown(&self) -> String {
        match self {
            Token::Word(text) | Token::Number(text) => text.clone(),
            Token::Quoted(text) => format!("\"{text}\""),
            Token::Text(text) => format!("'{text}'"),
            Token::Sign(sign) => (*sign).to_owned(),
        }
    }
}

/// The longer ones first.
const SIGNS: [&str; 11] = ["==", "!=", "<>", "<=", ">=", "=", "<", ">", "(", ")", ","];

pub fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, after) = if matches!(first, '\'' | '"' | '`') {
            let (content, after) = quoted(&rest[1..], first)?;
            (if first == '\'' { Token::Text(content) } else { Token::Quoted(content) }, after)
        } else if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            (Token::Sign(sign), &rest[sign.len()..])
        } else if first.is_ascii_digit() || matches!(first, '-' | '+' | '.') {
            let end = number(rest);
            (Token::Number(rest[..end].to_owned()), &rest[end..])
        } else if first.is_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            (Token::Word(rest[..end].to_owned()), &rest[end..])
        } else {
            return Err(format!("{first} means nothing here"));
        };
        tokens.push(token);
        rest = after.trim_start();
    }
    Ok(tokens)
}

/// What is in quotes, and what follows. A quote that is doubled stands for itself.
fn quoted(rest: &str, quote: char) -> Result<(String, &str), String> {
    let mut content = String::new();
    let mut chars = rest.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c != quote {
            content.push(c);
        } else if chars.next_if(|(_, next)| *next == quote).is_some() {
            content.push(quote);
        } else {
            return Ok((content, &rest[at + 1..]));
        }
    }
    Err(format!("a {quote} is not closed"))
}

/// The length of a number. A sign is part of it at the beginning and after an `e`.
fn number(rest: &str) -> usize {
    let mut before = ' ';
    for (at, c) in rest.char_indices() {
        let sign = matches!(c, '-' | '+') && (at == 0 || matches!(before, 'e' | 'E'));
        if !sign && !c.is_ascii_digit() && !matches!(c, '.' | 'e' | 'E') {
            return at;
        }
        before = c;
    }
    rest.len()
}
