//! Cron lines: five fields, or a word such as @daily, as sets of numbers.
//!
//! This is a parser of our own because no crate fits: `croner` and `cron` depend on chrono, which the operator does not
//! use, and those for jiff do not say what happens to a fixed hour that a clock skips or repeats. What belongs here:
//! text to sets. `calendar` computes times.

use std::ops::RangeInclusive;

use jiff::civil::Date;

/// A cron line. Each field is a set of bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    pub(super) minutes: u64,
    pub(super) hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Day of the month or day of the week is `*`: both must match then; otherwise one of them is enough.
    is_one_open: bool,
}

struct Field {
    what: &'static str,
    range: RangeInclusive<u32>,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
const FIELDS: [Field; 5] = [
    Field { what: "minute", range: 0..=59, names: &[] },
    Field { what: "hour", range: 0..=23, names: &[] },
    Field { what: "day of the month", range: 1..=31, names: &[] },
    Field { what: "month", range: 1..=12, names: &MONTHS },
    // Both 0 and 7 are Sunday.
    Field { what: "day of the week", range: 0..=7, names: &WEEKDAYS },
];
const EVERY_HOUR: u64 = (1 << 24) - 1;
/// The maximum length of each month: a line whose days exceed it never matches.
const LONGEST: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

impl Cron {
    /// Parses a line; the error says which part is wrong and what to write.
    pub fn parse(line: &str) -> Result<Self, String> {
        let line = match line.trim() {
            "" => return Err("must not be empty: write five fields, such as \"30 2 * * *\"".to_owned()),
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            line if line.starts_with("@every") => {
                return Err(format!(
                    "\"{line}\" has no fixed times: write */n in a field, such as \"*/15 * * * *\" for every 15 minutes"
                ));
            }
            line if line.starts_with('@') => {
                return Err(format!(
                    "\"{line}\" is not known: write @hourly, @daily, @weekly, @monthly or @yearly, or five fields"
                ));
            }
            line if line.starts_with("TZ=") || line.starts_with("CRON_TZ=") => {
                return Err("has a time zone in it: write that to spec.timeZone".to_owned());
            }
            line => line,
        };
        let texts: Vec<&str> = line.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = texts.as_slice() else {
            let advice = if texts.len() == 6 { ": seconds are not among them" } else { "" };
            return Err(format!(
                "\"{line}\" has {} fields, and five are needed (minute hour day month weekday){advice}",
                texts.len()
            ));
        };
        let [minutes, hours, days, months, weekdays] = FIELDS;
        let mut cron = Self {
            minutes: minutes.read(minute)?,
            hours: hours.read(hour)?,
            days: days.read(day)?,
            months: months.read(month)?,
            weekdays: weekdays.read(weekday)?,
            is_one_open: [day, weekday].iter().any(|text| matches!(**text, "*" | "?")),
        };
        cron.weekdays |= cron.weekdays >> 7 & 1;
        if matches!(*weekday, "*" | "?") && !cron.has_days() {
            return Err(format!("\"{line}\" never comes: no month that it names has such a day"));
        }
        Ok(cron)
    }

    fn has_days(&self) -> bool {
        (1..=12u32)
            .zip(LONGEST)
            .any(|(month, longest)| self.months >> month & 1 == 1 && (1..=longest).any(|day| self.days >> day & 1 == 1))
    }

    /// Whether the line follows elapsed time rather than the clock: only a line that names hours follows the clock.
    pub(super) fn is_every_hour(&self) -> bool {
        self.hours == EVERY_HOUR
    }

    pub(super) fn is_on(&self, date: Date) -> bool {
        let has = |set: u64, number: i8| set >> number.unsigned_abs() & 1 == 1;
        if !has(self.months, date.month()) {
            return false;
        }
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        if self.is_one_open { day && weekday } else { day || weekday }
    }
}

impl Field {
    fn read(&self, text: &str) -> Result<u64, String> {
        text.split(',').try_fold(0, |set, part| Ok(set | self.part(part)?))
    }

    /// `*`, `5`, `1-5`, each with an optional `/2`; `5/15` goes from 5 to the end.
    fn part(&self, text: &str) -> Result<u64, String> {
        let (first, last) = (*self.range.start(), *self.range.end());
        let (range, step) = match text.split_once('/') {
            None => (text, None),
            Some((range, step)) => match step.parse::<u32>() {
                Ok(step) if (1..=last).contains(&step) => (range, Some(step)),
                _ => return Err(self.fault(text, &format!("the step must be a number from 1 to {last}"))),
            },
        };
        let (from, to) = match range.split_once('-') {
            _ if matches!(range, "*" | "?") => (first, if self.names.len() == 7 { 6 } else { last }),
            Some((from, to)) => (self.number(from, text)?, self.number(to, text)?),
            None => {
                let from = self.number(range, text)?;
                (from, if step.is_some() { last } else { from })
            }
        };
        if from > to {
            return Err(self.fault(text, &format!("{from} comes after {to}: write {from}-{last},{first}-{to}")));
        }
        let steps = (from..=to).step_by(step.unwrap_or(1) as usize);
        Ok(steps.fold(0, |set, number| set | 1 << number))
    }

    fn number(&self, word: &str, text: &str) -> Result<u32, String> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(word));
        // Months start at 1, days of the week at 0.
        let named = named.and_then(|at| u32::try_from(at).ok()).map(|at| at + *self.range.start());
        let number = word.bytes().all(|byte| byte.is_ascii_digit()).then(|| word.parse::<u32>().ok()).flatten();
        match named.or(number) {
            Some(number) if self.range.contains(&number) => Ok(number),
            _ => {
                let names = match self.names {
                    [] => String::new(),
                    names => format!(", or {} to {}", names[0], names[names.len() - 1]),
                };
                Err(self
                    .fault(text, &format!("write numbers from {} to {}{names}", self.range.start(), self.range.end())))
            }
        }
    }

    fn fault(&self, text: &str, advice: &str) -> String {
        format!("the {} \"{text}\" cannot be read: {advice}", self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(numbers: &[u32]) -> u64 {
        numbers.iter().fold(0, |set, number| set | 1 << number)
    }

    #[test]
    fn lines_are_read() {
        let cron = Cron::parse("*/20 1-3,22 5/13 jan,DEC 1-5").unwrap();
        assert_eq!(cron.minutes, bits(&[0, 20, 40]));
        assert_eq!(cron.hours, bits(&[1, 2, 3, 22]));
        assert_eq!(cron.days, bits(&[5, 18, 31]));
        assert_eq!(cron.months, bits(&[1, 12]));
        assert_eq!(cron.weekdays, bits(&[1, 2, 3, 4, 5]));
        assert!(!cron.is_one_open && !cron.is_every_hour());
        assert!(Cron::parse("0 0-23 * * *").unwrap().is_every_hour(), "however it is spelt");
        assert_eq!(Cron::parse("0 0 * * 7").unwrap().weekdays & 1, 1, "7 is Sunday");
        assert_eq!(Cron::parse(" @daily ").unwrap(), Cron::parse("0  0 * * ?").unwrap());
        assert_eq!(Cron::parse("0 0 * * SUN").unwrap(), Cron::parse("@weekly").unwrap());
        assert!(Cron::parse("0 0 29 2 *").is_ok(), "every four years");
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (line, words) in [
            ("", "must not be empty"),
            ("60 * * * *", "the minute \"60\" cannot be read: write numbers from 0 to 59"),
            ("* * * * MOND", "write numbers from 0 to 7, or SUN to SAT"),
            ("* * * 13 *", "or JAN to DEC"),
            ("*/0 * * * *", "the step must be a number from 1 to 59"),
            ("* * * * FRI-MON", "5 comes after 1: write 5-7,0-1"),
            ("* * 0 * *", "the day of the month \"0\""),
            ("* * * *", "has 4 fields, and five are needed"),
            ("0 * * * * *", "seconds are not among them"),
            ("@every 1h", "write */n in a field"),
            ("@reboot", "is not known"),
            ("TZ=UTC 0 0 * * *", "spec.timeZone"),
            ("0 0 31 2,4 *", "never comes"),
            ("+1 * * * *", "the minute \"+1\""),
            ("1,, * * * *", "the minute \"\""),
            ("99999999999999999999 * * * *", "from 0 to 59"),
        ] {
            let error = Cron::parse(line).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
        assert!(Cron::parse("0 0 31 2 MON").is_ok(), "a Monday in February is enough");
    }
}
