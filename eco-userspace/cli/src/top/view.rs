// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The picture of a model: for a terminal of any size, light or dark, with colour or without.
//!
//! What matters is said in words and by reversed or bold text; colour only repeats it.

use eco_agent::api::{Node, Unit};
use ratatui::{
    Frame,
    layout::{Constraint, Flex, Layout, Rect},
    style::{Color, Style},
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph, Row as TableRow, Table},
};

use super::{
    input::KEYS,
    model::{Kind, Link, Mode, Model, Row, Sort, joules},
};
use crate::out::{printable, quantity};

/// Lines of domains that are shown; a machine has few that do not contain each other.
const MOST_DOMAINS: usize = 4;
const BAR: usize = 20;

/// Draws everything. Gives the number of lines that a page of the list has.
pub(crate) fn draw(frame: &mut Frame<'_>, model: &mut Model, colour: bool) -> usize {
    let header = header(model, colour, frame.area().width);
    let height = u16::try_from(header.len()).unwrap_or(u16::MAX);
    let [top, list, bottom] = Layout::vertical([
        Constraint::Length(height),
        Constraint::Min(0),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Paragraph::new(header), top);
    let page = draw_list(frame, model, list);
    frame.render_widget(Paragraph::new(footer(model)), bottom);
    match &model.mode {
        Mode::Help => draw_help(frame),
        Mode::SortMenu(marked) => {
            let items: Vec<String> = Sort::ALL.iter().map(|s| s.label().to_owned()).collect();
            draw_menu(frame, "Sort by", &items, *marked);
        }
        Mode::UserMenu(marked) => {
            let mut items = vec!["everybody".to_owned()];
            items.extend(
                model
                    .users()
                    .iter()
                    .map(|user| printable(user).into_owned()),
            );
            draw_menu(frame, "Show user", &items, *marked);
        }
        _ => {}
    }
    page
}

fn header(model: &Model, colour: bool, width: u16) -> Vec<Line<'static>> {
    let node = &model.units.node;
    let mut lines = vec![first_line(model, colour, width)];
    if node.cpus > 0 {
        lines.push(cpu_line(node));
        lines.extend(domain_lines(node));
        lines.extend(carbon_line(node));
    }
    lines.push(info_line(model, colour));
    lines
}

fn first_line(model: &Model, colour: bool, width: u16) -> Line<'static> {
    let node = &model.units.node;
    let mut left = vec!["eco top".to_owned()];
    if !node.name.is_empty() {
        left.push(printable(&node.name).into_owned());
        left.push(format!("{} CPUs", node.cpus));
        left.push(format!("{} processes", node.processes));
    }
    if !model.tier.is_empty() {
        left.push(format!("tier {}", printable(&model.tier)));
    }
    let left = format!(" {}", left.join(" · "));
    // RFC 3339: the time of day stands between the T and the fraction or zone.
    let at: String = model
        .units
        .at
        .split('T')
        .nth(1)
        .unwrap_or_default()
        .chars()
        .take(8)
        .collect();
    let (state, style) = match (&model.link, model.paused) {
        (Link::Lost(_), _) => ("LOST", alarm(colour)),
        (Link::Waiting, _) => ("waiting", Style::new()),
        (Link::Live, true) => ("PAUSED", Style::new().reversed()),
        (Link::Live, false) => ("live", Style::new()),
    };
    let right = format!("{at} {state} ");
    let gap = usize::from(width).saturating_sub(Line::raw(&*left).width() + right.len());
    Line::from(vec![
        Span::styled(left, Style::new().bold()),
        Span::raw(format!("{:gap$}{at} ", "")),
        Span::styled(state, style),
        Span::raw(" "),
    ])
}

fn cpu_line(node: &Node) -> Line<'static> {
    let full = f64::from(node.cpus) * 100.0;
    let share = (node.cpu_percent / full).clamp(0.0, 1.0);
    let filled = (share * BAR as f64).round() as usize;
    Line::raw(format!(
        " CPU      {:>9} of {full:.0} %  [{:BAR$}]",
        format!("{} %", percent(node.cpu_percent)),
        "|".repeat(filled),
    ))
}

fn domain_lines(node: &Node) -> impl Iterator<Item = Line<'static>> {
    let label = if node.estimated {
        "estimated"
    } else {
        "measured"
    };
    node.watts
        .iter()
        .take(MOST_DOMAINS)
        .map(move |(domain, watts)| {
            let idle = match node.idle_watts.get(domain) {
                Some(idle) => format!("of which idle {}", quantity(*idle, "W")),
                None => String::new(),
            };
            Line::raw(format!(
                " {:<8} {:>9} {label}  {idle}",
                printable(domain),
                quantity(*watts, "W"),
            ))
        })
}

/// What the power that is shown emits in an hour, if that is known.
fn carbon_line(node: &Node) -> Option<Line<'static>> {
    let rate = quantity(node.carbon_grams_per_hour?, "g/h");
    Some(Line::raw(format!(" {:<8} {rate:>9}", "carbon")))
}

fn info_line(model: &Model, colour: bool) -> Line<'static> {
    if let Link::Lost(why) = &model.link {
        return Line::styled(format!(" {}; trying again", printable(why)), alarm(colour));
    }
    let total = model.units.units.len();
    let mut parts = vec![match model.rows().len() {
        shown if shown == total => format!("kind {} · {total} shown", model.kind.label()),
        shown => format!("kind {} · {shown} of {total} shown", model.kind.label()),
    }];
    if !model.filter.is_empty() {
        parts.push(format!("filter {:?}", model.filter));
    }
    if let Some(user) = &model.user {
        parts.push(format!("user {}", printable(user)));
    }
    if model.tree && model.kind == Kind::Process {
        parts.push("tree".to_owned());
    }
    Line::raw(format!(" {}", parts.join(" · ")))
}

fn draw_list(frame: &mut Frame<'_>, model: &mut Model, area: Rect) -> usize {
    let page = usize::from(area.height.saturating_sub(1));
    let visible = model.visible(page);
    let selected = model.selected();
    let rows: Vec<TableRow<'_>> = visible
        .clone()
        .zip(&model.rows()[visible])
        .map(|(place, row)| {
            let line = table_row(model, row);
            if place == selected {
                line.style(Style::new().reversed())
            } else {
                line
            }
        })
        .collect();
    let empty = rows.is_empty();
    let widths = [
        Constraint::Length(7),
        Constraint::Length(9),
        Constraint::Length(6),
        Constraint::Length(8),
        Constraint::Length(9),
        Constraint::Fill(1),
    ];
    let table = Table::new(rows, widths)
        .header(heads(model).style(Style::new().reversed()))
        .column_spacing(1);
    frame.render_widget(table, area);
    if empty && area.height > 2 {
        let message = match (&model.link, model.units.units.is_empty()) {
            (Link::Waiting, _) => "waiting for the agent",
            (Link::Lost(_), true) => "no data; `eco status` tells what is missing",
            (_, false) => "nothing matches; Esc shows all",
            (Link::Live, true) if model.kind == Kind::Job => "no jobs; try: eco run -- CMD",
            (Link::Live, true) => "none",
        };
        let middle = Rect {
            y: area.y + 2,
            height: 1,
            ..area
        };
        frame.render_widget(Paragraph::new(message).centered(), middle);
    }
    page
}

fn heads(model: &Model) -> TableRow<'static> {
    let head = |text: &'static str, sort: Sort| {
        if model.sort != sort {
            return text.to_owned();
        }
        // Large numbers first is down; names and process ids go up from the smallest.
        let down = matches!(sort, Sort::Cpu | Sort::Watts | Sort::Energy) != model.inverted;
        format!("{text}{}", if down { "▼" } else { "▲" })
    };
    let (first, last) = match model.kind {
        Kind::Process => ("PID", "COMMAND"),
        _ => ("TASKS", "NAME"),
    };
    TableRow::new(vec![
        Line::raw(head(first, Sort::Pid)).right_aligned(),
        Line::raw("USER"),
        Line::raw(head("CPU%", Sort::Cpu)).right_aligned(),
        Line::raw(head("W", Sort::Watts)).right_aligned(),
        Line::raw(head("J", Sort::Energy)).right_aligned(),
        Line::raw(head(last, Sort::Name)),
    ])
}

fn table_row(model: &Model, row: &Row) -> TableRow<'static> {
    let unit = &model.units.units[row.unit];
    let first = match unit.pid {
        Some(pid) => pid.to_string(),
        None if model.kind == Kind::Process => String::new(),
        None => unit.tasks.to_string(),
    };
    TableRow::new(vec![
        Line::raw(first).right_aligned(),
        Line::raw(printable(unit.user.as_deref().unwrap_or("")).into_owned()),
        Line::raw(percent(unit.cpu_percent)).right_aligned(),
        Line::raw(number(unit.watts)).right_aligned(),
        Line::raw(number(joules(unit))).right_aligned(),
        Line::raw(format!("{}{}", row.branch, name(unit))),
    ])
}

/// What to call a unit on the screen.
pub(crate) fn name(unit: &Unit) -> String {
    let label = if unit.label.is_empty() {
        &unit.name
    } else {
        &unit.label
    };
    let mark = if unit.kind == "kernel" || unit.kind == "other" {
        format!(" [{}]", unit.kind)
    } else {
        String::new()
    };
    format!("{}{mark}", printable(label))
}

/// A share in percent, in at most six columns for a thousand CPUs.
pub(crate) fn percent(value: f64) -> String {
    if value.is_finite() {
        format!("{value:.1}")
    } else {
        "?".to_owned()
    }
}

/// A number in at most eight columns.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        v if !v.is_finite() => "?".to_owned(),
        v if v < 99_999.995 => format!("{value:.2}"),
        v if v < 1e8 => format!("{value:.0}"),
        _ => format!("{value:.2e}"),
    }
}

fn footer(model: &Model) -> Line<'static> {
    match &model.mode {
        Mode::Search(words) => prompt("Search: ", words, "F3 next  Enter ends"),
        Mode::Filter => prompt("Filter: ", &model.filter, "Enter keeps  Esc clears"),
        _ => {
            let keys = [
                ("F1", "Help "),
                ("F3", "Search "),
                ("F4", "Filter "),
                ("F5", "Tree "),
                ("F6", "Sort "),
                ("u", "User "),
                ("Spc", "Pause "),
                ("Tab", "Kind "),
                ("F10", "Quit "),
            ];
            let spans = keys.into_iter().flat_map(|(key, does)| {
                [Span::raw(key), Span::styled(does, Style::new().reversed())]
            });
            Line::from_iter(spans)
        }
    }
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

fn draw_help(frame: &mut Frame<'_>) {
    let lines: Vec<Line<'_>> = KEYS
        .iter()
        .map(|(key, does)| Line::raw(format!("{key:<16} {does}")))
        .collect();
    draw_box(frame, "Keys (any key goes back)", lines);
}

fn draw_menu(frame: &mut Frame<'_>, title: &str, items: &[String], marked: usize) {
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
    draw_box(frame, title, lines.collect());
}

fn draw_box(frame: &mut Frame<'_>, title: &str, lines: Vec<Line<'_>>) {
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
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

/// What must not be overlooked.
fn alarm(colour: bool) -> Style {
    let style = Style::new().bold().reversed();
    if colour { style.fg(Color::Red) } else { style }
}
