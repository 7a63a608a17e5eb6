// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The bottom line: what the keys do now, or what is being typed.

use ratatui::{
    Frame,
    crossterm::event::KeyCode,
    layout::Rect,
    style::Style,
    text::{Line, Span},
    widgets::Paragraph,
};

use super::{Target, Targets};
use crate::{
    out::printable,
    top::model::{Mode, Model},
};

/// A key: what it is called, what it does, and itself.
type Key = (&'static str, &'static str, KeyCode);

const FIRST: [Key; 2] = [
    ("F1", "Help ", KeyCode::F(1)),
    ("F2", "Kind ", KeyCode::F(2)),
];
const IN_REPLAY: [Key; 3] = [
    ("Spc", "Pause ", KeyCode::Char(' ')),
    ("←→", "Step ", KeyCode::Right),
    ("+-", "Speed ", KeyCode::Char('+')),
];
const USUAL: [Key; 7] = [
    ("F3", "Search ", KeyCode::F(3)),
    ("F4", "Filter ", KeyCode::F(4)),
    ("F5", "Tree ", KeyCode::F(5)),
    ("F6", "Sort ", KeyCode::F(6)),
    ("Ent", "Open ", KeyCode::Enter),
    ("Bksp", "Back ", KeyCode::Backspace),
    ("F10", "Quit ", KeyCode::F(10)),
];

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, area: Rect, targets: &mut Targets) {
    let line = match &model.mode {
        Mode::Search(words) => {
            let keys = if model.has(words) {
                "F3 next  Up before  Enter ends"
            } else {
                "not found"
            };
            prompt("Search: ", words, keys)
        }
        Mode::Filter => prompt("Filter: ", &model.filter, "Enter keeps  Esc clears"),
        _ => keys(model, area, targets),
    };
    frame.render_widget(Paragraph::new(line), area);
}

fn keys(model: &Model, area: Rect, targets: &mut Targets) -> Line<'static> {
    let in_replay: &[Key] = if model.playback.is_some() {
        &IN_REPLAY
    } else {
        &[]
    };
    let mut line = Line::default();
    for (key, does, code) in FIRST.iter().chain(in_replay).chain(&USUAL).copied() {
        let start = line.width() as u16;
        line.push_span(Span::raw(key));
        line.push_span(Span::styled(does, Style::new().reversed()));
        let place = Rect {
            x: area.x.saturating_add(start),
            width: line.width() as u16 - start,
            ..area
        };
        targets.add(place.intersection(area), Target::Key(code));
    }
    line
}

fn prompt(what: &'static str, words: &str, keys: &'static str) -> Line<'static> {
    Line::from(vec![
        Span::styled(what, Style::new().bold()),
        Span::raw(printable(words).into_owned()),
        Span::styled(" ", Style::new().reversed()),
        Span::raw("  "),
        Span::styled(keys, Style::new().dim()),
    ])
}
