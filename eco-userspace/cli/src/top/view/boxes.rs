// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What lies over the list: menus, the keys, all about one unit.

use ratatui::{
    Frame,
    layout::{Constraint, Flex, Layout, Rect},
    style::Style,
    text::Line,
    widgets::{Block, Clear, Paragraph},
};

use super::{Target, Targets, name, number, percent, spark};
use crate::{
    out::{printable, quantity, span},
    top::{
        input::KEYS,
        kind::Sort,
        model::{Mode, Model},
    },
};

/// Draws what the mode asks for, if that is anything.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, targets: &mut Targets) {
    match &model.mode {
        Mode::List | Mode::Search(_) | Mode::Filter => {}
        Mode::Help => draw_help(frame),
        Mode::Details(key) => draw_details(frame, model, key),
        Mode::SortMenu(marked) => {
            let items: Vec<String> = Sort::ALL.iter().map(|s| s.label().to_owned()).collect();
            draw_menu(frame, "Sort by", &items, *marked, targets);
        }
        Mode::KindMenu(marked) => {
            let kinds = model.place().kinds().iter();
            let items: Vec<String> = kinds.map(|kind| kind.plural().to_owned()).collect();
            draw_menu(frame, "List", &items, *marked, targets);
        }
        Mode::UserMenu(marked) => {
            let mut items = vec!["everybody".to_owned()];
            let users = model.users();
            items.extend(users.iter().map(|user| printable(user).into_owned()));
            draw_menu(frame, "Show user", &items, *marked, targets);
        }
    }
}

fn draw_details(frame: &mut Frame<'_>, model: &Model, key: &str) {
    let Some(unit) = model.unit(key) else {
        let gone = vec![Line::raw(
            "It has ended, or is not among those shown any more.",
        )];
        draw_box(frame, "Any key goes back", gone);
        return;
    };
    let mut facts: Vec<(&str, String)> = Vec::new();
    let mut tell = |what, fact: String| facts.push((what, fact));
    if let Some(pid) = unit.pid {
        tell("process", pid.to_string());
    }
    if let Some(parent) = unit.parent {
        tell("parent", parent.to_string());
    }
    if let Some(user) = &unit.user {
        tell("user", printable(user).into_owned());
    }
    if let Some(cgroup) = &unit.cgroup {
        tell("cgroup", printable(cgroup).into_owned());
    }
    tell("tasks", unit.tasks.to_string());
    let cpu = percent(unit.cpu_percent);
    tell("CPU", format!("{cpu} %  {} in all", span(unit.cpu_seconds)));
    tell("power", format!("{} W", number(unit.watts)));
    for (domain, joules) in &unit.energy_joules {
        let what = format!("{}  {}", quantity(*joules, "J"), printable(domain));
        tell("energy", what);
    }
    if let Some(rate) = unit.carbon_grams_per_hour {
        tell("carbon", quantity(rate, "g/h"));
    }
    let before: Vec<f64> = model.history.unit(key).collect();
    let peak = before.iter().copied().fold(0.0, f64::max);
    if before.len() > 1 {
        tell("before", spark(&before, peak));
        tell("peak", quantity(peak, "W"));
    }
    let facts = facts.iter();
    let lines = facts.map(|(what, fact)| Line::raw(format!("{what:<8} {fact}")));
    draw_box(frame, &name(unit), lines.collect());
}

fn draw_help(frame: &mut Frame<'_>) {
    let lines: Vec<Line<'_>> = KEYS
        .iter()
        .map(|(key, does)| Line::raw(format!("{key:<16} {does}")))
        .collect();
    draw_box(frame, "Keys (any key goes back)", lines);
}

fn draw_menu(
    frame: &mut Frame<'_>,
    title: &str,
    items: &[String],
    marked: usize,
    targets: &mut Targets,
) {
    let room = usize::from(frame.area().height.saturating_sub(2)).max(1);
    let first = (marked + 1).saturating_sub(room);
    let lines = items
        .iter()
        .enumerate()
        .skip(first)
        .take(room)
        .map(|(n, item)| {
            let (mark, style) = if n == marked {
                ("> ", Style::new().reversed())
            } else {
                ("  ", Style::new())
            };
            Line::styled(format!("{mark}{item:<14}"), style)
        });
    let inside = draw_box(frame, title, lines.collect());
    for (line, row) in (first..items.len()).zip(inside.rows()) {
        targets.add(row, Target::MenuLine(line));
    }
}

/// Gives where the lines are.
fn draw_box(frame: &mut Frame<'_>, title: &str, lines: Vec<Line<'_>>) -> Rect {
    let widest = lines
        .iter()
        .map(Line::width)
        .max()
        .unwrap_or(0)
        .max(title.len());
    let size = |n: usize| Constraint::Length(u16::try_from(n + 2).unwrap_or(u16::MAX));
    let [row] = Layout::vertical([size(lines.len())])
        .flex(Flex::Center)
        .areas(frame.area());
    let [area] = Layout::horizontal([size(widest)])
        .flex(Flex::Center)
        .areas(row);
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(title.to_owned());
    let inside = block.inner(area);
    frame.render_widget(Paragraph::new(lines).block(block), area);
    inside
}
