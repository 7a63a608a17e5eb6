// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The picture of a model: for a terminal of any size, light or dark, with colour or without.
//!
//! What matters is said in words and by reversed or bold text; colour only repeats it.

mod boxes;
mod header;

use eco_agent::api::Unit;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Style},
    text::{Line, Span},
    widgets::{Paragraph, Row as TableRow, Table},
};

use super::{
    kind::{Kind, Sort, joules, key},
    model::{Link, Mode, Model},
    rows::Row,
};
use crate::out::{printable, quantity};

/// A list this wide shows each unit's power before, and from here on what it emits.
const WITH_HISTORY: u16 = 110;
const WITH_CARBON: u16 = 95;
const HISTORY: usize = 16;

/// Draws everything. Gives the number of lines that a page of the list has.
pub(crate) fn draw(frame: &mut Frame<'_>, model: &mut Model, colour: bool) -> usize {
    let header = header::lines(model, colour, frame.area().width);
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
    boxes::draw(frame, model);
    page
}

fn draw_list(frame: &mut Frame<'_>, model: &mut Model, area: Rect) -> usize {
    let page = usize::from(area.height.saturating_sub(1));
    let visible = model.visible(page);
    let selected = model.selected();
    let columns = Columns::of(model, area.width);
    let rows: Vec<TableRow<'_>> = visible
        .clone()
        .zip(&model.rows()[visible])
        .map(|(place, row)| {
            let line = table_row(model, row, columns);
            if place == selected {
                line.style(Style::new().reversed())
            } else {
                line
            }
        })
        .collect();
    let empty = rows.is_empty();
    let table = Table::new(rows, columns.widths())
        .header(heads(model, columns).style(Style::new().reversed()))
        .column_spacing(1);
    frame.render_widget(table, area);
    if empty && area.height > 2 {
        let message = match (&model.link, model.units.units.is_empty()) {
            (Link::Waiting, _) => "waiting for the agent",
            (Link::Lost(_), true) => "no data; `eco status` tells what is missing",
            (_, false) => "nothing matches; Esc shows all",
            (Link::Live, true) if model.kind() == Kind::Job => "no jobs; try: eco run -- CMD",
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

fn heads(model: &Model, columns: Columns) -> TableRow<'static> {
    let head = |text: &'static str, sort: Sort| {
        if model.sort != sort {
            return text.to_owned();
        }
        // Large numbers first is down; names and process ids go up from the smallest.
        let down = sort.is_descending() != model.inverted;
        format!("{text}{}", if down { "▼" } else { "▲" })
    };
    let (first, last) = match model.kind() {
        Kind::Process => ("PID", "COMMAND"),
        _ => ("TASKS", "NAME"),
    };
    let mut cells = vec![
        Line::raw(head(first, Sort::Pid)).right_aligned(),
        Line::raw(head("USER", Sort::User)),
        Line::raw(head("CPU%", Sort::Cpu)).right_aligned(),
        Line::raw(head("W", Sort::Watts)).right_aligned(),
        Line::raw(head("ENERGY", Sort::Energy)).right_aligned(),
    ];
    if columns.gpu {
        cells.push(Line::raw("GPU W").right_aligned());
    }
    if columns.carbon {
        cells.push(Line::raw("CO2 g/h").right_aligned());
    }
    if columns.history {
        cells.push(Line::raw("BEFORE"));
    }
    cells.push(Line::raw(head(last, Sort::Name)));
    TableRow::new(cells)
}

/// Which of the columns that not every screen has are shown.
#[derive(Clone, Copy)]
struct Columns {
    gpu: bool,
    carbon: bool,
    history: bool,
}

impl Columns {
    fn of(model: &Model, width: u16) -> Self {
        let node = &model.units.node;
        Self {
            gpu: node.watts.contains_key("gpu") && width >= WITH_CARBON,
            carbon: node.carbon_grams_per_hour.is_some() && width >= WITH_CARBON,
            history: width >= WITH_HISTORY,
        }
    }

    fn widths(self) -> Vec<Constraint> {
        let mut widths: Vec<Constraint> = [7, 9, 6, 8, 9].map(Constraint::Length).into();
        let more = [
            (self.gpu, 8),
            (self.carbon, 8),
            (self.history, HISTORY as u16),
        ];
        let more = more.into_iter().filter(|(shown, _)| *shown);
        widths.extend(more.map(|(_, width)| Constraint::Length(width)));
        widths.push(Constraint::Fill(1));
        widths
    }
}

fn table_row(model: &Model, row: &Row, columns: Columns) -> TableRow<'static> {
    let unit = &model.units.units[row.unit];
    let first = match unit.pid {
        Some(pid) => pid.to_string(),
        None if model.kind() == Kind::Process => String::new(),
        None => unit.tasks.to_string(),
    };
    let mut cells = vec![
        Line::raw(first).right_aligned(),
        Line::raw(printable(unit.user.as_deref().unwrap_or("")).into_owned()),
        Line::raw(percent(unit.cpu_percent)).right_aligned(),
        Line::raw(number(unit.watts)).right_aligned(),
        Line::raw(quantity(joules(unit), "J")).right_aligned(),
    ];
    if columns.gpu {
        let watts = model.history.gpu_watts(key(unit));
        cells.push(Line::raw(watts.map_or_else(|| "-".to_owned(), number)).right_aligned());
    }
    if columns.carbon {
        let rate = unit.carbon_grams_per_hour;
        cells.push(Line::raw(rate.map_or_else(|| "-".to_owned(), number)).right_aligned());
    }
    if columns.history {
        let known: Vec<f64> = model.history.unit(key(unit)).collect();
        let shown = &known[known.len().saturating_sub(HISTORY)..];
        let peak = shown.iter().copied().fold(0.0, f64::max);
        cells.push(Line::raw(spark(shown, peak)));
    }
    cells.push(Line::raw(format!("{}{}", row.branch, name(unit))));
    TableRow::new(cells)
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
    let place = match (&unit.pod, &unit.container) {
        (Some(pod), Some(container)) => {
            format!(" {} in {}", printable(container), printable(pod))
        }
        (Some(pod), None) => format!(" in {}", printable(pod)),
        _ => String::new(),
    };
    format!("{}{mark}{place}", printable(label))
}

/// Values as a line of bars, the highest as high as `peak`.
fn spark(values: &[f64], peak: f64) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    // Less than this is noise, and not to be drawn as mountains.
    let peak = peak.max(0.1);
    let bar = |value: f64| {
        // A float that is none becomes zero.
        let height = (value / peak * 7.0).round() as usize;
        BARS[height.min(7)]
    };
    values.iter().copied().map(bar).collect()
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
        Mode::Search(words) => {
            let keys = if model.has(words) {
                "F3 next  Up before  Enter ends"
            } else {
                "not found"
            };
            prompt("Search: ", words, keys)
        }
        Mode::Filter => prompt("Filter: ", &model.filter, "Enter keeps  Esc clears"),
        _ => {
            let live = [("F1", "Help "), ("F2", "Kind ")];
            let replay = [("Spc", "Pause "), ("←→", "Step "), ("+-", "Speed ")];
            let usual = [
                ("F3", "Search "),
                ("F4", "Filter "),
                ("F5", "Tree "),
                ("F6", "Sort "),
                ("Ent", "Open "),
                ("Bksp", "Back "),
                ("F10", "Quit "),
            ];
            let more: &[_] = if model.playback.is_some() {
                &replay
            } else {
                &[]
            };
            let keys = live.iter().chain(more).chain(&usual).copied();
            let spans = keys.flat_map(|(key, does)| {
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

/// What must not be overlooked.
fn alarm(colour: bool) -> Style {
    let style = Style::new().bold().reversed();
    if colour { style.fg(Color::Red) } else { style }
}
