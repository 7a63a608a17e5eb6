// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Plays a recording: a thread that shows its pictures in the time that passed between them.

use std::{
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
    thread,
    time::Duration,
};

use super::{
    feed::{News, Order, Play, Top},
    model::Playback,
    place::Scope,
    recording::{Recording, part},
};

/// A gap in a recording is not waited for longer than so many of its intervals.
const LONGEST_GAP: u32 = 5;
const SLOWEST: f64 = 0.125;
const FASTEST: f64 = 64.0;

/// Starts the thread. It ends with either channel.
pub(super) fn start<M: Send + 'static>(
    recording: Recording,
    scope: Scope,
    top: Top,
    news: Sender<M>,
    message: impl Fn(News) -> M + Send + 'static,
) -> Sender<Order> {
    let (orders, inbox) = mpsc::channel();
    let mut player = Player::new(recording, scope, top);
    thread::spawn(move || {
        let tell = move |one| news.send(message(one)).is_ok();
        player.play(&inbox, tell);
    });
    orders
}

struct Player {
    recording: Recording,
    scope: Scope,
    top: Top,
    picture: usize,
    speed: f64,
    paused: bool,
}

impl Player {
    fn new(recording: Recording, scope: Scope, top: Top) -> Self {
        Self {
            recording,
            scope,
            top,
            picture: 0,
            speed: 1.0,
            paused: false,
        }
    }

    fn play(&mut self, orders: &Receiver<Order>, tell: impl Fn(News) -> bool) {
        let tier = self.recording.header().tier.clone();
        let mut told = tell(News::Tier(tier));
        if let Some(trouble) = self.recording.trouble() {
            told &= tell(News::Notice(format!(
                "the rest cannot be played: {trouble}"
            )));
        }
        while told {
            told = self.show().into_iter().all(&tell);
            let order = match self.pause() {
                Some(limit) => match orders.recv_timeout(limit) {
                    Ok(order) => Some(order),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => return,
                },
                None => match orders.recv() {
                    Ok(order) => Some(order),
                    Err(_) => return,
                },
            };
            match order {
                Some(order) => self.obey(order),
                None => self.picture += 1,
            }
        }
    }

    fn show(&mut self) -> Vec<News> {
        let mut news = Vec::new();
        let units = self.recording.picture(self.picture).or_else(|why| {
            news.push(News::Notice(format!("the rest cannot be played: {why}")));
            // What is before it was sound when it was shown.
            self.picture = self.recording.len().saturating_sub(1);
            self.recording.picture(self.picture)
        });
        match units {
            Ok(units) => {
                let units = part(units, &self.scope, self.top.of(&self.scope));
                news.push(News::Units(self.scope.clone(), Box::new(units)));
            }
            Err(why) => news.push(News::Lost(why)),
        }
        news.push(News::Playback(Playback {
            picture: self.picture + 1,
            pictures: self.recording.len(),
            speed: self.speed,
            paused: self.paused,
        }));
        news
    }

    /// How long this picture stands; `None`: until somebody orders something.
    fn pause(&self) -> Option<Duration> {
        if self.paused || self.picture + 1 >= self.recording.len() {
            return None;
        }
        let usual = self.recording.header().interval_seconds;
        let usual = if usual.is_finite() {
            usual.clamp(0.05, 3_600.0)
        } else {
            1.0
        };
        let passed = self
            .recording
            .at(self.picture)
            .zip(self.recording.at(self.picture + 1))
            .map_or(usual, |(now, next)| next.duration_since(now).as_secs_f64());
        let seconds = passed.clamp(0.01, usual * f64::from(LONGEST_GAP)) / self.speed;
        Some(Duration::from_secs_f64(seconds))
    }

    fn obey(&mut self, order: Order) {
        let last = self.recording.len().saturating_sub(1);
        match order {
            Order::Show(scope) => self.scope = scope,
            // At the end there is nothing to go on to but the beginning.
            Order::Play(Play::Pause) if self.picture >= last => {
                (self.picture, self.paused) = (0, false);
            }
            Order::Play(Play::Pause) => self.paused = !self.paused,
            Order::Play(Play::Step(by)) => {
                let by = isize::try_from(by).unwrap_or(0);
                self.picture = self.picture.saturating_add_signed(by).min(last);
                self.paused = true;
            }
            Order::Play(Play::Faster) => self.speed = (self.speed * 2.0).min(FASTEST),
            Order::Play(Play::Slower) => self.speed = (self.speed / 2.0).max(SLOWEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use eco_agent::api::Units;

    use super::*;
    use crate::top::recording::Recorder;

    fn player(seconds: &[u32]) -> Player {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r");
        let mut recorder = Recorder::create(&path, Duration::from_secs(1)).unwrap();
        for second in seconds {
            let units = Units {
                at: format!("2026-01-02T03:{:02}:{:02}Z", second / 60, second % 60),
                ..Units::default()
            };
            recorder.record(&units, "iter").unwrap();
        }
        let recording = Recording::open(&path).unwrap();
        Player::new(recording, Scope::default(), Top::Usual(10))
    }

    #[test]
    fn a_picture_stands_as_long_as_it_did_and_a_gap_is_not_waited_for() {
        let mut player = player(&[0, 2, 602, 601]);
        let second = Duration::from_secs(1);
        assert_eq!(player.pause(), Some(2 * second));
        player.obey(Order::Play(Play::Faster));
        assert_eq!(player.pause(), Some(second));
        player.obey(Order::Play(Play::Slower));
        player.picture = 1;
        assert_eq!(player.pause(), Some(5 * second));
        player.picture = 2;
        assert_eq!(player.pause(), Some(second / 100), "a clock went back");
        player.picture = 3;
        assert_eq!(player.pause(), None, "the end");
    }

    #[test]
    fn a_step_pauses_stays_inside_and_the_end_begins_again() {
        let mut player = player(&[0, 1, 2]);
        player.obey(Order::Play(Play::Step(-1)));
        assert_eq!(
            (player.picture, player.paused, player.pause()),
            (0, true, None)
        );
        player.obey(Order::Play(Play::Step(i64::MAX)));
        assert_eq!(player.picture, 2);
        player.obey(Order::Play(Play::Pause));
        assert_eq!((player.picture, player.paused), (0, false));
        for _ in 0..100 {
            player.obey(Order::Play(Play::Faster));
        }
        assert!((player.speed - FASTEST).abs() < 1e-9);
    }

    #[test]
    fn what_is_told_says_which_picture_of_how_many() {
        let mut player = player(&[0, 1, 2]);
        player.picture = 1;
        let told = player.show();
        assert!(matches!(&told[0], News::Units(_, units) if units.at.ends_with("03:00:01Z")));
        assert!(matches!(&told[1], News::Playback(p) if (p.picture, p.pictures) == (2, 3)));
    }
}
