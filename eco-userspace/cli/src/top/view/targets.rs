// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is where in a picture, for a mouse.

use ratatui::{
    crossterm::event::KeyCode,
    layout::{Position, Rect},
};

use crate::top::kind::Sort;

/// What one may click on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A line of the list.
    Line(usize),
    /// The heading of a column.
    Head(Sort),
    /// A step of the way to what is listed: so many levels are left there.
    Level(usize),
    /// A line of a menu.
    MenuLine(usize),
    /// What the bottom line says of a key.
    Key(KeyCode),
}

/// What is where in the picture that is shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Targets {
    /// How many lines a page of the list has.
    pub(crate) page: usize,
    places: Vec<(Rect, Target)>,
}

impl Targets {
    /// What is at a place of the screen; of several that lie over each other, the topmost.
    pub(crate) fn at(&self, column: u16, row: u16) -> Option<Target> {
        let mut from_above = self.places.iter().rev();
        let found = from_above.find(|(area, _)| area.contains(Position::new(column, row)));
        found.map(|(_, target)| *target)
    }

    /// One more, which lies over those before it.
    pub(super) fn add(&mut self, area: Rect, target: Target) {
        self.places.push((area, target));
    }
}
