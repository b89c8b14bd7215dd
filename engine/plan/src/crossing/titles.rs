//! INITCAP (`str.to_titlecase`), which Polars has since version 2: a letter after a non-letter becomes a capital, all
//! other letters become lower case. Built from the engine's string and list functions, by the Unicode rules that Polars
//! follows.

use polars::prelude::*;
use polars_plan::dsl::Expr;
use polars_plan::prelude::lit;
use serde_json::{Value, json};

use super::{functions, values};
use floe_wire::error::Result;

/// Runs of letters, and the characters between them.
const WORDS: &str = r"\p{Alphabetic}+|\P{Alphabetic}";
/// A capital sigma becomes a final or a non-final small sigma, depending on the cased letters around it, across
/// characters without case. So replace it before the text is split into words.
const SIGMA_WITHIN: (&str, &str) = (r"Σ(\p{Case_Ignorable}*[\p{Cased}--\p{Case_Ignorable}])", "σ${1}");
const SIGMA_AT_THE_END: (&str, &str) = (r"([\p{Cased}--\p{Case_Ignorable}]\p{Case_Ignorable}*)Σ", "${1}ς");

/// Letters whose title case differs from `upper`, each followed by its title case.
const UNLIKE_UPPER: &str = "\
    ß Ss Ǆ ǅ ǅ ǅ ǆ ǅ Ǉ ǈ ǈ ǈ ǉ ǈ Ǌ ǋ ǋ ǋ ǌ ǋ Ǳ ǲ ǲ ǲ ǳ ǲ և Եւ ᾀ ᾈ ᾁ ᾉ ᾂ ᾊ ᾃ ᾋ ᾄ ᾌ ᾅ ᾍ ᾆ ᾎ ᾇ ᾏ ᾈ ᾈ ᾉ ᾉ \
    ᾊ ᾊ ᾋ ᾋ ᾌ ᾌ ᾍ ᾍ ᾎ ᾎ ᾏ ᾏ ᾐ ᾘ ᾑ ᾙ ᾒ ᾚ ᾓ ᾛ ᾔ ᾜ ᾕ ᾝ ᾖ ᾞ ᾗ ᾟ ᾘ ᾘ ᾙ ᾙ ᾚ ᾚ ᾛ ᾛ ᾜ ᾜ ᾝ ᾝ ᾞ ᾞ ᾟ ᾟ ᾠ ᾨ ᾡ ᾩ ᾢ ᾪ \
    ᾣ ᾫ ᾤ ᾬ ᾥ ᾭ ᾦ ᾮ ᾧ ᾯ ᾨ ᾨ ᾩ ᾩ ᾪ ᾪ ᾫ ᾫ ᾬ ᾬ ᾭ ᾭ ᾮ ᾮ ᾯ ᾯ ᾲ Ὰͅ ᾳ ᾼ ᾴ Άͅ ᾷ ᾼ͂ ᾼ ᾼ ῂ Ὴͅ ῃ ῌ ῄ Ήͅ ῇ ῌ͂ ῌ ῌ \
    ῲ Ὼͅ ῳ ῼ ῴ Ώͅ ῷ ῼ͂ ῼ ῼ ﬀ Ff ﬁ Fi ﬂ Fl ﬃ Ffi ﬄ Ffl ﬅ St ﬆ St ﬓ Մն ﬔ Մե ﬕ Մի ﬖ Վն ﬗ Մխ";

/// Converts a text to title case.
pub fn titled(text: Expr) -> Result<Expr> {
    let call = |name: &str, args: &[Value], input: Vec<Expr>| functions::build(name, args, input, None);
    let mut text = text;
    // A match consumes its last character, which then cannot begin the next match: adjacent sigmas need a second pass.
    for (pattern, with) in [SIGMA_WITHIN, SIGMA_WITHIN, SIGMA_AT_THE_END] {
        text = call("StringFunction.Replace", &[json!(-1), json!(false)], vec![text, lit(pattern), lit(with)])?;
    }
    let words = call("StringFunction.ExtractAll", &[], vec![text, lit(WORDS)])?;
    let first = call("StringFunction.Head", &[], vec![Expr::Element, lit(1)])?;
    let rest = call("StringFunction.Slice", &[], vec![Expr::Element, lit(1), lit(NULL)])?;
    let (small, capital) = unlike_upper();
    let upper = call("StringFunction.Uppercase", &[], vec![first.clone()])?;
    let input = vec![first, list(small)?, list(capital)?, upper];
    let first = functions::build("replace_strict", &[], input, Some(&DataType::String))?;
    let word = first + call("StringFunction.Lowercase", &[], vec![rest])?;
    call("ListFunction.Join", &[json!(true)], vec![words.list().eval(word), lit("")])
}

/// The letters and their title cases, in parallel.
fn unlike_upper() -> (Vec<String>, Vec<String>) {
    let listed: Vec<&str> = UNLIKE_UPPER.split(' ').collect();
    let mut pairs: Vec<(String, String)> = listed.chunks(2).map(|pair| (pair[0].into(), pair[1].into())).collect();
    // Georgian has capitals for all-caps text only.
    let georgian = ('\u{10d0}'..='\u{10fa}').chain('\u{10fd}'..='\u{10ff}');
    pairs.extend(georgian.map(|letter| (letter.to_string(), letter.to_string())));
    pairs.into_iter().unzip()
}

fn list(texts: Vec<String>) -> Result<Expr> {
    Ok(Expr::Literal(values::literal(&DataType::List(Box::new(DataType::String)), &json!(texts))?))
}
