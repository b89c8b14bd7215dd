//! The grammar of a filter.

use super::lexer::{Token, tokens};
use super::{Comparison, Condition, Literal};

type Parsed = Condition<String, Literal>;

/// Parentheses and NOT may be so deep.
const DEPTH: usize = 64;
const KEYWORDS: [&str; 11] = ["and", "or", "not", "in", "is", "null", "between", "true", "false", "date", "timestamp"];

pub fn parse(text: &str) -> Result<Parsed, String> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let condition = parser.any()?;
    match parser.peek() {
        None => Ok(condition),
        Some(token) => Err(format!("{} is not expected: join conditions by AND or OR", token.shown())),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

/// One side of a comparison.
enum Operand {
    Column(String),
    Literal(Literal),
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn is_keyword(&self, at: usize, word: &str) -> bool {
        matches!(self.tokens.get(at), Some(Token::Word(text)) if text.eq_ignore_ascii_case(word))
    }

    /// Takes a keyword, if it is next.
    fn take(&mut self, word: &str) -> bool {
        let found = self.is_keyword(self.at, word);
        self.at += usize::from(found);
        found
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(next)) if *next == sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, found: bool, wanted: &str) -> Result<(), String> {
        if found {
            return Ok(());
        }
        Err(match self.peek() {
            Some(token) => format!("{wanted} is expected instead of {}", token.shown()),
            None => format!("{wanted} is expected at the end"),
        })
    }

    fn any(&mut self) -> Result<Parsed, String> {
        let mut conditions = vec![self.all()?];
        while self.take("or") {
            conditions.push(self.all()?);
        }
        Ok(one_or(conditions, Condition::Or))
    }

    fn all(&mut self) -> Result<Parsed, String> {
        let mut conditions = vec![self.negated()?];
        while self.take("and") {
            conditions.push(self.negated()?);
        }
        Ok(one_or(conditions, Condition::And))
    }

    fn negated(&mut self) -> Result<Parsed, String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(format!("it is nested more than {DEPTH} deep"));
        }
        let condition = if self.take("not") {
            Condition::Not(Box::new(self.negated()?))
        } else if self.take_sign("(") {
            let inner = self.any()?;
            let closed = self.take_sign(")");
            self.expect(closed, ")")?;
            inner
        } else {
            self.condition()?
        };
        self.depth -= 1;
        Ok(condition)
    }

    fn condition(&mut self) -> Result<Parsed, String> {
        let column = match self.operand()? {
            Operand::Literal(literal) => {
                let comparison = self.comparison()?;
                return match self.operand()? {
                    Operand::Column(column) => Ok(Condition::Compare(column, comparison.turned(), literal)),
                    Operand::Literal(_) => Err("a value is compared with a value: name a column".to_owned()),
                };
            }
            Operand::Column(column) => column,
        };
        if self.take("is") {
            let negated = self.take("not");
            let null = self.take("null");
            self.expect(null, "NULL")?;
            return Ok(negate(Condition::IsNull(column), negated));
        }
        let negated = self.take("not");
        if self.take("in") {
            let opened = self.take_sign("(");
            self.expect(opened, "(")?;
            let mut conditions = Vec::new();
            loop {
                conditions.push(Condition::Compare(column.clone(), Comparison::Equal, self.literal()?));
                if !self.take_sign(",") {
                    break;
                }
            }
            let closed = self.take_sign(")");
            self.expect(closed, ")")?;
            return Ok(negate(one_or(conditions, Condition::Or), negated));
        }
        if self.take("between") {
            let low = Condition::Compare(column.clone(), Comparison::GreaterOrEqual, self.literal()?);
            let and = self.take("and");
            self.expect(and, "AND")?;
            let high = Condition::Compare(column, Comparison::LessOrEqual, self.literal()?);
            return Ok(negate(Condition::And(vec![low, high]), negated));
        }
        self.expect(!negated, "IN or BETWEEN")?;
        let comparison = self.comparison()?;
        let literal = self.literal()?;
        Ok(Condition::Compare(column, comparison, literal))
    }

    fn comparison(&mut self) -> Result<Comparison, String> {
        let found = match self.peek() {
            Some(Token::Sign("=" | "==")) => Some(Comparison::Equal),
            Some(Token::Sign("!=" | "<>")) => Some(Comparison::NotEqual),
            Some(Token::Sign("<")) => Some(Comparison::Less),
            Some(Token::Sign("<=")) => Some(Comparison::LessOrEqual),
            Some(Token::Sign(">")) => Some(Comparison::Greater),
            Some(Token::Sign(">=")) => Some(Comparison::GreaterOrEqual),
            _ => None,
        };
        self.expect(found.is_some(), "a comparison, IN, BETWEEN or IS NULL")?;
        self.at += 1;
        found.ok_or_else(String::new)
    }

    fn literal(&mut self) -> Result<Literal, String> {
        match self.operand()? {
            Operand::Literal(literal) => Ok(literal),
            Operand::Column(column) => {
                Err(format!("column {column} stands where a value is expected: write texts in single quotes"))
            }
        }
    }

    fn operand(&mut self) -> Result<Operand, String> {
        if self.is_keyword(self.at, "null") {
            return Err("nothing compares with NULL: write IS NULL".to_owned());
        }
        // DATE '2026-01-31' is the text, whose column says what it means.
        let typed = self.is_keyword(self.at, "date") || self.is_keyword(self.at, "timestamp");
        if typed && matches!(self.tokens.get(self.at + 1), Some(Token::Text(_))) {
            self.at += 1;
        }
        let operand = match self.peek() {
            Some(Token::Text(text)) => Operand::Literal(Literal::Text(text.clone())),
            Some(Token::Number(text)) => Operand::Literal(Literal::Number(text.clone())),
            Some(Token::Quoted(name)) => Operand::Column(name.clone()),
            Some(Token::Word(word)) => match word.to_ascii_lowercase().as_str() {
                "true" => Operand::Literal(Literal::Boolean(true)),
                "false" => Operand::Literal(Literal::Boolean(false)),
                // These are fine names of columns.
                "date" | "timestamp" => Operand::Column(word.clone()),
                lower if KEYWORDS.contains(&lower) => {
                    return Err(format!("a column is expected instead of {word}: if it is one, write \"{word}\""));
                }
                _ => Operand::Column(word.clone()),
            },
            other => {
                let wanted = "a column or a value is expected";
                return Err(match other {
                    Some(token) => format!("{wanted} instead of {}", token.shown()),
                    None => format!("{wanted} at the end"),
                });
            }
        };
        self.at += 1;
        Ok(operand)
    }
}

impl Comparison {
    /// With its sides exchanged.
    fn turned(self) -> Self {
        match self {
            Comparison::Equal | Comparison::NotEqual => self,
            Comparison::Less => Comparison::Greater,
            Comparison::LessOrEqual => Comparison::GreaterOrEqual,
            Comparison::Greater => Comparison::Less,
            Comparison::GreaterOrEqual => Comparison::LessOrEqual,
        }
    }
}

fn negate(condition: Parsed, negated: bool) -> Parsed {
    if negated { Condition::Not(Box::new(condition)) } else { condition }
}

/// The only condition, or what joins them all.
fn one_or(mut conditions: Vec<Parsed>, join: impl FnOnce(Vec<Parsed>) -> Parsed) -> Parsed {
    match conditions.len() {
        1 => conditions.remove(0),
        _ => join(conditions),
    }
}
