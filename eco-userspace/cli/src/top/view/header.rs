// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What stands above the list: the machine, its power now and before, and where one looks.

use eco_agent::api::{Node, NodeMeter};
use ratatui::{
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{Target, Targets, alarm, percent, spark};
use crate::{
    energy,
    out::{printable, quantity},
    top::model::{Link, Model},
};

/// Lines of domains that are shown; a machine has few that do not contain each other.
const MOST_DOMAINS: usize = 4;
const BAR: usize = 20;
/// A screen that is lower needs its lines for the list.
const LOWEST_WITH_DOMAINS: u16 = 14;
/// Between two steps of the way to what is listed.
const STEP: &str = " › ";
/// A history that is shorter than this tells nothing.
const NARROWEST_HISTORY: usize = 8;

/// The lines, for a screen of that size.
pub(super) fn lines(model: &Model, colour: bool, screen: Rect) -> Vec<Line<'static>> {
    let node = &model.units.node;
    let width = screen.width;
    let mut lines = vec![first_line(model, colour, width)];
    if node.cpus > 0 {
        lines.push(cpu_line(node));
        lines.push(power_line(model, usize::from(width)));
        if screen.height >= LOWEST_WITH_DOMAINS {
            lines.extend(domain_lines(node, usize::from(width)));
        }
    }
    lines.push(place_line(model, colour));
    lines
}

/// Where the steps of the way are, if they are shown: in the last line of the header.
pub(super) fn add_way(model: &Model, header: Rect, targets: &mut Targets) {
    if matches!(model.link, Link::Lost(_)) || model.notice.is_some() || header.is_empty() {
        return;
    }
    // The line begins with a blank.
    let mut x = header.x + 1;
    for (step, text) in way(model).iter().enumerate() {
        let width = Line::raw(text.as_str()).width() as u16;
        let place = Rect {
            x,
            y: header.bottom() - 1,
            width,
            height: 1,
        };
        // A kind lists again what its level was chosen from; a unit, what is in it.
        targets.add(place.intersection(header), Target::Level(step.div_ceil(2)));
        x = x.saturating_add(width + Line::raw(STEP).width() as u16);
    }
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
    let mut left = format!(" {}", left.join(" · "));
    // RFC 3339: the time of day stands between the T and the fraction or zone.
    let time = model.units.at.split('T').nth(1).unwrap_or_default();
    let at: String = printable(time).chars().take(8).collect();
    let (state, style) = state(model, colour);
    let right = at.chars().count() + state.chars().count() + 2;
    // Whether data comes is to be seen on any screen.
    let room = usize::from(width).saturating_sub(right);
    while Line::raw(&*left).width() > room {
        left.pop();
    }
    let gap = room - Line::raw(&*left).width();
    Line::from(vec![
        Span::styled(left, Style::new().bold()),
        Span::raw(format!("{:gap$}{at} ", "")),
        Span::styled(state, style),
        Span::raw(" "),
    ])
}

fn state(model: &Model, colour: bool) -> (String, Style) {
    let reversed = Style::new().reversed();
    if let Some(play) = &model.playback {
        let at = format!("{}/{}", play.picture, play.pictures);
        return match (play.picture >= play.pictures, play.paused) {
            (true, _) => (format!("END {at}"), reversed),
            (false, true) => (format!("PAUSED {at}"), reversed),
            (false, false) => (format!("REPLAY {at} ×{}", play.speed), Style::new()),
        };
    }
    let word = match (&model.link, model.paused, &model.recording) {
        (Link::Lost(_), ..) => return ("LOST".to_owned(), alarm(colour)),
        (Link::Waiting, ..) => "waiting",
        (Link::Live, true, _) => return ("PAUSED".to_owned(), reversed),
        (Link::Live, false, Some(_)) => "REC",
        (Link::Live, false, None) => "live",
    };
    (word.to_owned(), Style::new())
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

/// The whole power, what it emits in an hour if that is known, and the power before.
fn power_line(model: &Model, width: usize) -> Line<'static> {
    let node = &model.units.node;
    let Some(watts) = energy::total(&node.watts) else {
        return Line::raw(" power    no meter; `eco status` tells what is missing");
    };
    let label = if node.estimated {
        "estimated"
    } else {
        "measured"
    };
    let idle = match energy::total(&node.idle_watts) {
        Some(idle) => format!("  idle {}", quantity(idle, "W")),
        None => String::new(),
    };
    let carbon = match node.carbon_grams_per_hour {
        Some(rate) => format!("  carbon {}", quantity(rate, "g/h")),
        None => String::new(),
    };
    let text = format!(
        " power    {:>9} {label}{idle}{carbon}",
        quantity(watts, "W")
    );
    let known: Vec<f64> = model.history.node().collect();
    let room = width.saturating_sub(Line::raw(&*text).width() + "  peak 1000 mW".len() + 3);
    if known.len() < 2 || room < NARROWEST_HISTORY {
        return Line::raw(text);
    }
    let shown = &known[known.len().saturating_sub(room)..];
    let peak = shown.iter().copied().fold(0.0, f64::max);
    let history = spark(shown, peak);
    Line::raw(format!("{text}  {history}  peak {}", quantity(peak, "W")))
}

/// Each domain, and where it has several meters each of these: sockets, GPUs.
fn domain_lines(node: &Node, width: usize) -> impl Iterator<Item = Line<'static>> {
    let domains = node.watts.iter().take(MOST_DOMAINS);
    domains.map(move |(domain, watts)| {
        let mut text = format!(" {:<8} {:>9}", printable(domain), quantity(*watts, "W"));
        if let Some(idle) = node.idle_watts.get(domain) {
            text.push_str(&format!("  idle {}", quantity(*idle, "W")));
        }
        let meters = node.meters.iter().filter(|meter| meter.domain == *domain);
        let meters: Vec<&NodeMeter> = meters.collect();
        if meters.len() < 2 {
            return Line::raw(text);
        }
        for (at, meter) in meters.iter().enumerate() {
            let one = format!("  {} {}", short_name(meter), quantity(meter.watts, "W"));
            if Line::raw(&*text).width() + Line::raw(&*one).width() + 10 > width {
                text.push_str(&format!("  +{} more", meters.len() - at));
                break;
            }
            text.push_str(&one);
        }
        Line::raw(text)
    })
}

/// The name of a meter without what its line says already, at most a dozen letters.
fn short_name(meter: &NodeMeter) -> String {
    let name = printable(&meter.name);
    let short = name
        .strip_prefix(&*meter.domain)
        .and_then(|rest| rest.strip_prefix('-'))
        .filter(|rest| !rest.is_empty())
        .unwrap_or(&name);
    let short: String = short.chars().take(12).collect();
    format!("{short}:")
}

fn place_line(model: &Model, colour: bool) -> Line<'static> {
    if let Link::Lost(why) = &model.link {
        return Line::styled(format!(" trying again: {}", printable(why)), alarm(colour));
    }
    if let Some(notice) = &model.notice {
        return Line::styled(format!(" {}", printable(notice)), alarm(colour));
    }
    let total = model.units.units.len();
    let mut parts = vec![way(model).join(STEP)];
    parts.push(match model.rows().len() {
        shown if shown == total => format!("{total} shown"),
        shown => format!("{shown} of {total} shown"),
    });
    if !model.filter.is_empty() {
        parts.push(format!("filter {:?}", model.filter));
    }
    if let Some(user) = &model.user {
        parts.push(format!("user {}", printable(user)));
    }
    if model.tree && model.kind() == crate::top::kind::Kind::Process {
        parts.push("tree".to_owned());
    }
    if model.is_private {
        parts.push("a private agent's".to_owned());
    }
    Line::raw(format!(" {}", parts.join(" · ")))
}

/// The kind and the unit of each level, and what is listed now.
fn way(model: &Model) -> Vec<String> {
    let mut way: Vec<String> = Vec::new();
    for level in model.place().levels() {
        way.push(level.kind.plural().to_owned());
        way.push(printable(&level.label).into_owned());
    }
    way.push(model.kind().plural().to_owned());
    way
}
