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

/// So many gaps between scrapes a series that ends stays at its last value. `increase()` and
/// `rate()` of Prometheus (promql/functions.go, `extrapolatedRate`) go on with the mean slope for
/// half a gap after the last sample of a series that ends before the window does: of `n` gaps
/// that adds `1 / 2n`, half a percent of a hundred.
const LINGERING_GAPS: u32 = 100;

/// But no longer than this.
const LONGEST_LINGERING: Duration = Duration::from_secs(30 * 60);

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
        let waited = now.saturating_sub(since);
        self.current(now).count() > 0
            && self
                .current(now)
                .all(|scraper| scraper.last > since && waited >= longest_gap(scraper))
    }

    /// Whether a series that has stood at its last value since `since` may go: all have seen it,
    /// and so often that its end misleads none of them.
    #[must_use]
    pub fn may_go(&self, since: Moment, now: Moment) -> bool {
        let gaps = self.current(now).map(longest_gap);
        let lingering = gaps.max().unwrap_or_default() * LINGERING_GAPS;
        self.have_seen(since, now) && now.saturating_sub(since) >= lingering.min(LONGEST_LINGERING)
    }

    fn current(&self, now: Moment) -> impl Iterator<Item = &Scraper> {
        let scrapers = self.by_name.values();
        scrapers.filter(move |s| now.saturating_sub(s.last) < FORGOTTEN_AFTER)
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
    fn what_ends_stays_a_hundred_gaps_and_half_an_hour_at_most() {
        for (gap, lingers) in [(5, 500), (15, 1_500), (60, 1_800)] {
            let mut scrapers = Scrapers::default();
            for n in 0..200 {
                scrapers.scraped("p", s(n * gap));
            }
            let now = 199 * gap;
            assert!(!scrapers.may_go(s(now - lingers + 1), s(now)), "{gap}");
            assert!(scrapers.may_go(s(now - lingers), s(now)), "{gap}");
        }
        assert!(
            !Scrapers::default().may_go(s(0), s(100_000)),
            "nobody saw it"
        );
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
