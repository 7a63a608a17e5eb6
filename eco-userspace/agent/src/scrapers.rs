// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Who scrapes, and whether all of them have seen what was there at some moment.
//!
//! A series that appears must be seen at zero before it counts, and one that goes must be seen
//! at its last value: else what Prometheus adds up loses joules.

use std::{collections::HashMap, time::Duration};

/// A scraper that has not come for this long is not waited for.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(300);

/// The longest gap is one of the last so many of each scraper.
const GAPS: usize = 8;

/// At most so many are told apart; more are one.
const MOST: usize = 64;

/// Time since the agent started.
pub type Moment = Duration;

/// All scrapers of late.
#[derive(Debug, Default)]
pub struct Scrapers {
    by_name: HashMap<String, Scraper>,
}

#[derive(Debug, Default)]
struct Scraper {
    last: Moment,
    gaps: [Duration; GAPS],
    next: usize,
}

impl Scrapers {
    /// Notes a scrape, told apart by `name`: where it came from and what it calls itself.
    pub fn scraped(&mut self, name: &str, now: Moment) {
        self.by_name
            .retain(|_, s| now.saturating_sub(s.last) < FORGOTTEN_AFTER);
        let name = if self.by_name.len() < MOST { name } else { "" };
        match self.by_name.get_mut(name) {
            Some(scraper) => {
                scraper.gaps[scraper.next] = now.saturating_sub(scraper.last);
                scraper.next = (scraper.next + 1) % GAPS;
                scraper.last = now;
            }
            None => {
                self.by_name.insert(
                    name.to_owned(),
                    Scraper {
                        last: now,
                        ..Scraper::default()
                    },
                );
            }
        }
    }

    /// Whether anyone scrapes at all these days.
    #[must_use]
    pub fn any(&self, now: Moment) -> bool {
        self.by_name
            .values()
            .any(|s| now.saturating_sub(s.last) < FORGOTTEN_AFTER)
    }

    /// Whether what has been shown since `since` has been seen: by a scrape at least, and for
    /// at least the longest gap between scrapes lately, so that every scraper came.
    #[must_use]
    pub fn have_seen(&self, since: Moment, now: Moment) -> bool {
        let current = || {
            let fresh = |s: &&Scraper| now.saturating_sub(s.last) < FORGOTTEN_AFTER;
            self.by_name.values().filter(fresh)
        };
        let waited = now.saturating_sub(since);
        current().count() > 0
            && current().all(|scraper| scraper.last > since && waited >= longest_gap(scraper))
    }
}

fn longest_gap(scraper: &Scraper) -> Duration {
    scraper.gaps.iter().copied().max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Moment {
        Duration::from_secs(seconds)
    }

    #[test]
    fn nobody_has_seen_what_nobody_scrapes() {
        assert!(!Scrapers::default().have_seen(s(0), s(1000)));
    }

    #[test]
    fn the_slowest_scraper_is_waited_for() {
        let mut scrapers = Scrapers::default();
        for t in 0..=30 {
            scrapers.scraped("fast", s(t));
            if t % 15 == 0 {
                scrapers.scraped("slow", s(t));
            }
        }
        // Appeared just after 30: the fast one comes at 31.
        scrapers.scraped("fast", s(31));
        assert!(!scrapers.have_seen(s(30), s(31)));
        scrapers.scraped("fast", s(45));
        assert!(
            !scrapers.have_seen(s(30), s(45)),
            "the slow one has not come yet"
        );
        scrapers.scraped("slow", s(45));
        assert!(scrapers.have_seen(s(30), s(46)));
    }

    #[test]
    fn a_scraper_that_stays_away_is_forgotten() {
        let mut scrapers = Scrapers::default();
        scrapers.scraped("gone", s(0));
        for t in 1..400 {
            scrapers.scraped("here", s(t));
        }
        assert!(scrapers.have_seen(s(397), s(400)));
    }

    #[test]
    fn a_scraper_with_a_thousand_names_is_bounded() {
        let mut scrapers = Scrapers::default();
        for t in 0..1000 {
            scrapers.scraped(&format!("name {t}"), s(1));
        }
        assert!(scrapers.by_name.len() <= MOST + 1);
    }
}
