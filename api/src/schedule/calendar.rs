//! The times of a cron line in a time zone.
//!
//! A line with fixed hours means clock times: each occurs once a day. A time that the clock skips comes later by the
//! length of the jump (02:30 becomes 03:30); a time that the clock repeats comes the first time only. A line for every
//! hour means elapsed time: it has exactly the times that the clock shows, those that it repeats twice and those that
//! it skips not at all.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::OnceLock;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

use super::cron::Cron;
use crate::suggest;

/// Search at most 8 years ahead; a cron line without a match by then never matches.
const MAX_DAYS: u32 = 8 * 366 + 31;
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Looks up the time zone of an IANA name; the error says what to write. Uses the rules that the program was built
/// with, so that they are the same everywhere, and available in a container without any.
pub fn zone(name: &str) -> Result<TimeZone, String> {
    static ZONES: OnceLock<TimeZoneDatabase> = OnceLock::new();
    let zones = ZONES.get_or_init(TimeZoneDatabase::bundled);
    zones.get(name).map_err(|_| {
        let known: Vec<String> = zones.available().map(|name| name.as_str().to_owned()).collect();
        match suggest::nearest(name, known.iter().map(String::as_str)) {
            Some(meant) => format!("\"{name}\" is no time zone, did you mean {meant}?"),
            None => {
                format!(
                    "\"{name}\" is no time zone: write an IANA name, such as Europe/Berlin, America/New_York or Etc/UTC"
                )
            }
        }
    })
}

/// A cron line in a time zone.
#[derive(Clone)]
pub struct Calendar {
    cron: Cron,
    zone: TimeZone,
}

impl fmt::Debug for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calendar").field("cron", &self.cron).field("zone", &self.zone.iana_name()).finish()
    }
}

impl Calendar {
    pub fn new(cron: Cron, zone: TimeZone) -> Self {
        Self { cron, zone }
    }

    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first time after this one.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let mut date = self.zone.to_datetime(after).date().yesterday().ok()?;
        for _ in 0..MAX_DAYS {
            let found = self.times(date, after, Timestamp::MAX).next();
            date = date.tomorrow().ok()?;
            if let Some(found) = found {
                // If a clock changes, a day's last times may come after the first of the next day.
                let other = self.times(date, after, Timestamp::MAX).next();
                return Some(other.map_or(found, |other| other.min(found)));
            }
        }
        None
    }

    /// The last times after `after` and up to `until`, at most `limit`, in order; and whether there are more.
    pub fn last(&self, after: Timestamp, until: Timestamp, limit: usize) -> (Vec<Timestamp>, bool) {
        let mut found = BTreeSet::new();
        let day = |time| self.zone.to_datetime(time).date();
        let (Ok(begin), Ok(mut date)) = (day(after).yesterday(), day(until).tomorrow()) else {
            return (Vec::new(), false);
        };
        let mut is_last = false;
        while after < until && date >= begin {
            found.extend(self.times(date, after, until));
            if is_last {
                break;
            }
            // As above: the day before may have a later time.
            is_last = found.len() > limit;
            let Ok(before) = date.yesterday() else { break };
            date = before;
        }
        let skipped = found.len().saturating_sub(limit);
        (found.into_iter().skip(skipped).collect(), skipped > 0)
    }

    /// The times of a day between `after` (excluded) and `until` (included), in order.
    fn times(&self, date: Date, after: Timestamp, until: Timestamp) -> Box<dyn Iterator<Item = Timestamp> + '_> {
        if !self.cron.is_on(date) {
            return Box::new(std::iter::empty());
        }
        if let Some(midnight) = self.even(date) {
            // Count in minutes of the day, so that irrelevant hours are skipped.
            let minutes = |time: Timestamp| time.duration_since(midnight).as_secs().div_euclid(60);
            let (first, last) = (minutes(after) + 1, minutes(until));
            let hours = bits(self.cron.hours)
                .map(i64::from)
                .filter(move |hour| (first.div_euclid(60)..=last.div_euclid(60)).contains(hour));
            let all = hours.flat_map(|hour| bits(self.cron.minutes).map(move |minute| hour * 60 + i64::from(minute)));
            let within = all.filter(move |minute| (first..=last).contains(minute));
            return Box::new(within.map(move |minute| midnight + SignedDuration::from_mins(minute)));
        }
        let hours = bits(self.cron.hours);
        let readings = hours.flat_map(|hour| bits(self.cron.minutes).map(move |minute| date.at(hour, minute, 0, 0)));
        let times: BTreeSet<Timestamp> = readings.flat_map(|reading| self.at(reading)).collect();
        Box::new(times.into_iter().filter(move |time| after < *time && *time <= until))
    }

    /// Midnight of the day, if the clock does not change on it.
    fn even(&self, date: Date) -> Option<Timestamp> {
        let begin = date.to_zoned(self.zone.clone()).ok()?;
        let end = date.tomorrow().ok()?.to_zoned(self.zone.clone()).ok()?;
        let is_even = begin.time() == Time::midnight()
            && begin.offset() == end.offset()
            && end.timestamp().duration_since(begin.timestamp()) == DAY;
        is_even.then(|| begin.timestamp())
    }

    /// When the clock shows this reading.
    fn at(&self, reading: DateTime) -> Vec<Timestamp> {
        let (first, second) = match self.zone.to_ambiguous_timestamp(reading).offset() {
            AmbiguousOffset::Unambiguous { offset } => (Some(offset), None),
            AmbiguousOffset::Gap { before, .. } => ((!self.cron.is_every_hour()).then_some(before), None),
            AmbiguousOffset::Fold { before, after } => (Some(before), self.cron.is_every_hour().then_some(after)),
        };
        first.into_iter().chain(second).filter_map(|offset| offset.to_timestamp(reading).ok()).collect()
    }
}

fn bits(set: u64) -> impl Iterator<Item = i8> + Clone {
    (0..60i8).filter(move |bit| set >> bit & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calendar(line: &str, name: &str) -> Calendar {
        Calendar::new(Cron::parse(line).unwrap(), zone(name).unwrap())
    }

    /// The next times, each with its offset as the clock shows it.
    fn next(line: &str, name: &str, after: &str, count: usize) -> Vec<String> {
        let calendar = calendar(line, name);
        let mut at: Timestamp = after.parse().unwrap();
        let mut times = Vec::new();
        for _ in 0..count {
            at = calendar.next(at).unwrap();
            times.push(at.to_zoned(calendar.zone.clone()).strftime("%m-%d %H:%M%:z").to_string());
        }
        times
    }

    #[test]
    fn fixed_hours_come_once_a_day_whatever_the_clock_does() {
        let berlin = "Europe/Berlin";
        // 2026-03-29 has no 02:30.
        assert_eq!(
            next("30 2 * * *", berlin, "2026-03-27T12:00:00Z", 3),
            ["03-28 02:30+01:00", "03-29 03:30+02:00", "03-30 02:30+02:00"]
        );
        // 2026-10-25 has it twice.
        assert_eq!(next("30 2 * * *", berlin, "2026-10-24T12:00:00Z", 2), ["10-25 02:30+02:00", "10-26 02:30+01:00"]);
        // A time that is moved onto another time of the line coincides with it.
        assert_eq!(next("30 2,3 * * *", berlin, "2026-03-28T12:00:00Z", 2), ["03-29 03:30+02:00", "03-30 02:30+02:00"]);
        // And comes in order.
        assert_eq!(
            next("45,50 2,3 * * *", berlin, "2026-03-28T12:00:00Z", 3),
            ["03-29 03:45+02:00", "03-29 03:50+02:00", "03-30 02:45+02:00"]
        );
    }

    #[test]
    fn every_hour_goes_on_as_the_time_does() {
        let berlin = "Europe/Berlin";
        assert_eq!(
            next("0 * * * *", berlin, "2026-03-29T00:30:00Z", 2),
            ["03-29 03:00+02:00", "03-29 04:00+02:00"],
            "an hour after 01:00"
        );
        assert_eq!(
            next("*/30 * * * *", berlin, "2026-10-24T23:45:00Z", 5),
            ["10-25 02:00+02:00", "10-25 02:30+02:00", "10-25 02:00+01:00", "10-25 02:30+01:00", "10-25 03:00+01:00"]
        );
    }

    #[test]
    fn odd_zones_are_no_trouble() {
        // Half an hour is skipped, a clock goes back over midnight, a whole day is missing, midnight is missing.
        assert_eq!(next("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", 1), ["10-04 02:45+11:00"]);
        assert_eq!(
            next("30 23 * * *", "America/Sao_Paulo", "2018-02-17T20:00:00Z", 2),
            ["02-17 23:30-02:00", "02-18 23:30-03:00"]
        );
        assert_eq!(
            next("0 12 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", 3),
            ["12-29 12:00-10:00", "12-31 12:00+14:00", "01-01 12:00+14:00"]
        );
        assert_eq!(
            next("0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00Z", 2),
            ["11-04 01:00-02:00", "11-05 00:00-02:00"]
        );
    }

    #[test]
    fn rare_days_are_found() {
        assert_eq!(next("0 0 29 2 *", "Etc/UTC", "2096-03-01T00:00:00Z", 1), ["02-29 00:00+00:00"]);
        assert_eq!(
            next("0 0 13 * FRI", "Etc/UTC", "2026-03-10T00:00:00Z", 2),
            ["03-13 00:00+00:00", "03-20 00:00+00:00"]
        );
        assert!(calendar("0 0 29 2 *", "Etc/UTC").next("9999-03-01T00:00:00Z".parse().unwrap()).is_none());
    }

    #[test]
    fn the_last_times_are_those_that_next_gives() {
        for name in ["Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia", "Etc/UTC"] {
            for line in ["*/7 * * * *", "0,30 1-3 * * *", "30 23 * * *", "0 0 * * MON", "@monthly"] {
                let calendar = calendar(line, name);
                // Around days on which one of the clocks changes.
                for begin in ["2011-12-28", "2018-02-16", "2018-11-02", "2026-03-28", "2026-10-02", "2026-10-24"] {
                    let begin: Timestamp = format!("{begin}T00:00:00Z").parse().unwrap();
                    let end = begin + SignedDuration::from_hours(72);
                    let mut all = Vec::new();
                    let mut at = begin;
                    while let Some(time) = calendar.next(at).filter(|time| *time <= end) {
                        assert!(time > at);
                        all.push(time);
                        at = time;
                    }
                    let (last, more) = calendar.last(begin, end, usize::MAX);
                    assert!(last == all && !more, "{line} {name} {begin}: {last:?} {all:?}");
                    let (last, more) = calendar.last(begin, end, 2);
                    let skipped = all.len().saturating_sub(2);
                    assert!(last == all[skipped..] && more == (skipped > 0), "{line} {name} {begin}");
                }
            }
        }
    }

    #[test]
    fn looking_back_is_bounded_and_empty_spans_are_empty() {
        let minutes = calendar("* * * * *", "Europe/Berlin");
        let now: Timestamp = "2026-06-01T00:00:30Z".parse().unwrap();
        let (last, more) = minutes.last(Timestamp::UNIX_EPOCH, now, 100);
        assert_eq!((last.len(), more), (100, true));
        assert_eq!(last[99], "2026-06-01T00:00:00Z".parse().unwrap());
        assert_eq!(minutes.last(now, now, 100), (vec![], false));
        assert_eq!(minutes.last(now, Timestamp::UNIX_EPOCH, 100), (vec![], false));
    }

    #[test]
    fn zones_are_told_by_name() {
        assert!(zone("Asia/Kathmandu").is_ok() && zone("UTC").is_ok());
        assert!(zone("Europe/Berln").unwrap_err().contains("did you mean Europe/Berlin?"));
        assert!(zone("Middle/Earth").unwrap_err().contains("\"Middle/Earth\" is no time zone"));
    }
}
