// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `eco top` knows and shows, without a terminal: units in, rows out.

use std::{collections::BTreeSet, ops::Range};

use eco_agent::api::{Unit, Units};

use super::{
    history::History,
    kind::{Kind, Sort, key},
    place::{Place, Scope},
    rows::{Arrangement, Row, matches},
};

/// What the keys mean now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Moving about.
    #[default]
    List,
    /// Typing words to look for.
    Search(String),
    /// Typing words to show only.
    Filter,
    /// Choosing the order: the line that is marked.
    SortMenu(usize),
    /// Choosing what to list: the line that is marked.
    KindMenu(usize),
    /// Choosing a user: the line that is marked; 0 is everybody.
    UserMenu(usize),
    /// Reading all about one unit, by its key.
    Details(String),
    /// Reading the keys.
    Help,
}

/// Whether data comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Link {
    /// None has come yet.
    #[default]
    Waiting,
    /// It comes.
    Live,
    /// It does not, and why.
    Lost(String),
}

/// How far the replay of a recording is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Playback {
    /// The picture that is shown, from 1.
    pub(crate) picture: usize,
    /// How many there are.
    pub(crate) pictures: usize,
    /// How many seconds of the recording pass in one.
    pub(crate) speed: f64,
    /// Whether it stands still.
    pub(crate) paused: bool,
}

/// From where a search looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// The mark, onwards.
    Here,
    /// Behind the mark, onwards.
    Next,
    /// Before the mark, backwards.
    Previous,
}

/// All that the screen depends on.
#[derive(Default)]
pub(crate) struct Model {
    /// The order.
    pub(crate) sort: Sort,
    /// Whether the order is turned round.
    pub(crate) inverted: bool,
    /// Whether processes hang below their parents.
    pub(crate) tree: bool,
    /// Whether a live list stands still.
    pub(crate) paused: bool,
    /// Only units that have this in what they show.
    pub(crate) filter: String,
    /// Only units of this user.
    pub(crate) user: Option<String>,
    /// What the keys mean.
    pub(crate) mode: Mode,
    /// Whether data comes.
    pub(crate) link: Link,
    /// How the agent knows CPU time; empty until it has said so.
    pub(crate) tier: String,
    /// Whether the agent was started for this view alone.
    pub(crate) is_private: bool,
    /// The file that pictures are written to.
    pub(crate) recording: Option<String>,
    /// How far a replay is; `None` of what is live.
    pub(crate) playback: Option<Playback>,
    /// Something to be told that does not go away by itself.
    pub(crate) notice: Option<String>,
    /// What is shown.
    pub(crate) units: Units,
    /// What was shown before.
    pub(crate) history: History,
    place: Place,
    rows: Vec<Row>,
    selected: usize,
    /// Whether the mark stays on its unit; else it stays where it is, at the top.
    follows: bool,
    /// The unit to mark as soon as it is listed.
    wanted: Option<String>,
    first_visible: usize,
}

impl Model {
    /// A model that lists one kind.
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            place: Place::node(kind),
            ..Self::default()
        }
    }

    /// What is listed.
    pub(crate) fn kind(&self) -> Kind {
        self.place.kind()
    }

    /// Where one looks.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// What is to be fetched.
    pub(crate) fn scope(&self) -> Scope {
        // Those of little power are not fetched for a list by power, whose end nobody reads.
        let by_power = self.sort == Sort::Watts && !self.inverted && !self.tree;
        let looking = matches!(self.mode, Mode::Search(_)) || !self.filter.is_empty();
        Scope {
            kind: self.kind(),
            within: self.place.within(),
            all: !by_power || looking || self.user.is_some(),
        }
    }

    /// Takes new data, unless the list stands still.
    pub(crate) fn feed(&mut self, units: Units) {
        self.link = Link::Live;
        if self.paused {
            return;
        }
        let marked = self.wanted.take().or_else(|| self.marked_key());
        self.history.record(&units);
        self.units = units;
        self.arrange_around(marked);
        if let Mode::Search(words) = &self.mode {
            let words = words.clone();
            self.search(&words, From::Here);
        }
    }

    /// Hears that data does not come.
    pub(crate) fn lose(&mut self, why: String) {
        self.link = Link::Lost(why);
    }

    /// The lines of the list.
    pub(crate) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The marked line.
    pub(crate) fn selected(&self) -> usize {
        self.selected
    }

    /// The marked unit.
    pub(crate) fn marked(&self) -> Option<&Unit> {
        let row = self.rows.get(self.selected)?;
        self.units.units.get(row.unit)
    }

    /// The unit of that key, if it is listed.
    pub(crate) fn unit(&self, wanted: &str) -> Option<&Unit> {
        self.units.units.iter().find(|unit| key(unit) == wanted)
    }

    /// The lines that fit on a screen of `height`, which always include the marked one.
    pub(crate) fn visible(&mut self, height: usize) -> Range<usize> {
        let last_start = self.rows.len().saturating_sub(height);
        self.first_visible = self
            .first_visible
            .clamp(
                (self.selected + 1).saturating_sub(height.max(1)),
                self.selected,
            )
            .min(last_start);
        self.first_visible..(self.first_visible + height).min(self.rows.len())
    }

    /// Moves the mark, which then stays on its unit; at the very top it stays there.
    pub(crate) fn step(&mut self, by: isize) {
        self.mark(self.selected.saturating_add_signed(by));
        self.follows = self.selected > 0 || by > 0;
    }

    /// Marks a line.
    pub(crate) fn mark(&mut self, line: usize) {
        self.selected = line.min(self.rows.len().saturating_sub(1));
        self.follows = true;
    }

    /// Lists another kind of what this place has.
    pub(crate) fn list(&mut self, kind: Kind) {
        self.place.list(kind);
        self.begin_anew();
    }

    /// Lists the kind so many further on.
    pub(crate) fn turn(&mut self, by: isize) {
        self.place.turn(by);
        self.begin_anew();
    }

    /// Goes into the marked unit; of a process, shows all about it.
    pub(crate) fn enter(&mut self) {
        let Some(unit) = self.marked().cloned() else {
            return;
        };
        if self.place.enter(&unit) {
            self.begin_anew();
        } else {
            self.mode = Mode::Details(key(&unit).to_owned());
        }
    }

    /// Goes back until so many levels are left, and marks where one came from.
    pub(crate) fn leave_to(&mut self, depth: usize) {
        if let Some(left) = self.place.leave_to(depth) {
            self.begin_anew();
            self.wanted = Some(left);
            self.follows = true;
        }
    }

    /// Changes something that rows depend on, and keeps the mark on its unit.
    pub(crate) fn change(&mut self, with: impl FnOnce(&mut Self)) {
        let marked = self.marked_key();
        with(self);
        self.arrange_around(marked);
    }

    /// Orders by something, the usual way round.
    pub(crate) fn sort_by(&mut self, sort: Sort) {
        self.change(|m| (m.sort, m.inverted) = (sort, false));
    }

    /// Marks a unit that shows these words, if there is one.
    pub(crate) fn search(&mut self, words: &str, from: From) {
        let words = words.to_lowercase();
        let count = self.rows.len();
        let place = |step: usize| match from {
            From::Here => (self.selected + step) % count,
            From::Next => (self.selected + step + 1) % count,
            From::Previous => (self.selected + count - 1 - step) % count,
        };
        let shows = |&line: &usize| matches(&self.units.units[self.rows[line].unit], &words);
        let found = (0..count).map(place).find(shows);
        if let Some(line) = found {
            self.mark(line);
        }
    }

    /// Whether any line shows these words.
    pub(crate) fn has(&self, words: &str) -> bool {
        let words = words.to_lowercase();
        let mut units = self.rows.iter().map(|row| &self.units.units[row.unit]);
        units.any(|unit| matches(unit, &words))
    }

    /// Everybody who owns a listed unit, by name.
    pub(crate) fn users(&self) -> Vec<String> {
        let users = self.units.units.iter().filter_map(|u| u.user.as_ref());
        let users: BTreeSet<&String> = users.collect();
        users.into_iter().cloned().collect()
    }

    /// The units of another kind or place are to come: those of this one go.
    fn begin_anew(&mut self) {
        self.units.units.clear();
        self.history.forget_units();
        self.filter.clear();
        (self.user, self.paused, self.follows) = (None, false, false);
        (self.mode, self.wanted) = (Mode::List, None);
        (self.selected, self.first_visible) = (0, 0);
        if self.link == Link::Live {
            self.link = Link::Waiting;
        }
        self.arrange_around(None);
    }

    fn marked_key(&self) -> Option<String> {
        let marked = self.marked().filter(|_| self.follows);
        marked.map(|unit| key(unit).to_owned())
    }

    fn arrange_around(&mut self, marked: Option<String>) {
        let arrangement = Arrangement {
            filter: &self.filter,
            user: self.user.as_deref(),
            sort: self.sort,
            inverted: self.inverted,
            tree: self.tree && self.kind() == Kind::Process,
        };
        self.rows = arrangement.rows(&self.units.units);
        let is_marked = |row: &Row, wanted: &str| key(&self.units.units[row.unit]) == wanted;
        let place = marked.and_then(|wanted| {
            let mut rows = self.rows.iter();
            rows.position(|row| is_marked(row, &wanted))
        });
        let last = self.rows.len().saturating_sub(1);
        self.selected = place.unwrap_or(self.selected).min(last);
    }
}

#[cfg(test)]
mod tests;
