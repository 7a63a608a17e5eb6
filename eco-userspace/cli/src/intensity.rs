// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `eco intensity`: what the agent counts carbon at, and setting it.

use std::{fmt::Write as _, io, path::Path};

use clap::{Args, Subcommand, ValueEnum};
use eco_agent::{
    api::{Carbon, IntensityRequest},
    config::parse_duration,
};
use eco_intensity::{GramsPerKwh, Intensity, Kind, Pue, zones};
use jiff::{SignedDuration, Timestamp};

use crate::{
    client::Client,
    exit::{self, Failure, Outcome},
    out::{self, Style, printable},
};

const HELP: &str = "\
A value that was set goes before what the agent is configured with (carbon.g_per_kwh, or the
yearly average of carbon.zone), and is remembered when the agent starts again. One that is over
is not used any more; `eco status` says so. Setting it takes root or the agent's own user.

Examples:
  eco intensity
  sudo eco intensity set 360 --zone DE --source 'grid operator' --valid-for 1h
  eco intensity zones | grep -i germany";

/// What a kWh emits, as the agent knows it.
#[derive(Args)]
#[command(after_help = HELP)]
pub(crate) struct IntensityArgs {
    /// Write JSON.
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Show what carbon is counted at (the default).
    Show,
    /// Set it.
    Set(SetArgs),
    /// Withdraw what was set: what is configured holds again.
    Clear,
    /// List the zones of the bundled table, each with its year, source and licence.
    Zones,
}

#[derive(Args)]
struct SetArgs {
    /// Grams of CO2 equivalents per kWh.
    #[arg(value_name = "G_PER_KWH", value_parser = g_per_kwh, allow_negative_numbers = true)]
    g_per_kwh: GramsPerKwh,

    /// Where it is true: the grid's name.
    #[arg(long, value_name = "ZONE")]
    zone: String,

    /// Who says so.
    #[arg(long, value_name = "TEXT", default_value = "set by hand")]
    source: String,

    /// What it is a mean over.
    #[arg(long, value_enum, default_value_t = KindArg::Average)]
    kind: KindArg,

    /// How long it is true; until another is set if absent.
    #[arg(long, value_name = "TIME", value_parser = valid_for)]
    valid_for: Option<SignedDuration>,

    /// It only stands in for the value of this hour.
    #[arg(long)]
    estimated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KindArg {
    /// All that generates.
    Average,
    /// What would generate less or more.
    Marginal,
}

/// Shows or sets.
pub(crate) fn main(socket: &Path, args: IntensityArgs) -> Outcome {
    let answer = match args.action {
        Some(Action::Zones) => return print_zones(args.json),
        None | Some(Action::Show) => Client::new(socket)?.intensity()?,
        Some(Action::Clear) => Client::new(socket)?.withdraw_intensity()?,
        Some(Action::Set(set)) => {
            let request = set.request(Timestamp::now())?;
            Client::new(socket)?.push_intensity(&request)?
        }
    };
    if args.json {
        out::print_json(&answer)?;
    } else {
        out::print(&render(&answer, Style::of(&io::stdout())))?;
    }
    Ok(exit::DONE)
}

impl SetArgs {
    fn request(self, now: Timestamp) -> Result<IntensityRequest, Failure> {
        let until = |span| {
            now.checked_add(span)
                .map_err(|_| Failure::usage("--valid-for: ends after the year 9999"))
        };
        Ok(IntensityRequest {
            zone: self.zone,
            g_per_kwh: self.g_per_kwh.get(),
            kind: match self.kind {
                KindArg::Average => Kind::Average,
                KindArg::Marginal => Kind::Marginal,
            },
            source: self.source,
            valid_until: self.valid_for.map(until).transpose()?,
            estimated: self.estimated,
        })
    }
}

/// A few lines for people; `eco status` shows them too.
pub(crate) fn render(carbon: &Carbon, style: Style) -> String {
    lines(carbon, style)
        .into_iter()
        .fold(String::new(), |mut text, (label, value)| {
            let _ = writeln!(text, "{} {value}", style.dim(&format!("{label:<14}")));
            text
        })
}

/// Label and value of each line, safe for a terminal.
pub(crate) fn lines(carbon: &Carbon, style: Style) -> Vec<(&'static str, String)> {
    let now = match &carbon.intensity {
        Some(intensity) => one(intensity, style),
        None => "not known: no carbon is counted".to_owned(),
    };
    let mut lines = vec![("intensity", now)];
    if carbon.pue != Pue::ONE {
        lines.push(("PUE", carbon.pue.get().to_string()));
    }
    if let Some(stale) = &carbon.stale {
        lines.push((
            "stale",
            style.caution(&one(stale, Style::PLAIN)).into_owned(),
        ));
    }
    lines
}

fn one(intensity: &Intensity, style: Style) -> String {
    let from = printable(&intensity.provenance()).into_owned();
    let until = match intensity.valid_until {
        Some(at) => format!("; valid until {at}"),
        None => String::new(),
    };
    let value = intensity.g_per_kwh.to_string();
    format!("{}  {from}{until}", style.bold(&value))
}

fn print_zones(json: bool) -> Outcome {
    let mut text = String::new();
    if json {
        let all: Vec<Intensity> = zones::all().iter().map(zones::Zone::intensity).collect();
        text = out::json(&all)?;
    } else {
        let _ = writeln!(
            text,
            "{:<6} {:>9} {:<5} {:<10} {:<34} SOURCE",
            "ZONE", "G/KWH", "YEAR", "FACTORS", "NAME"
        );
        for zone in zones::all() {
            let _ = writeln!(
                text,
                "{:<6} {:>9.3} {:<5} {:<10} {:<34} {} ({})",
                zone.code,
                zone.g_per_kwh.get(),
                zone.year,
                zone.factors,
                zone.name,
                zone.source,
                zone.licence
            );
        }
    }
    out::print(&text).map(|()| exit::DONE)
}

fn g_per_kwh(text: &str) -> Result<GramsPerKwh, String> {
    let number = text
        .parse()
        .map_err(|_| "give a number of g/kWh".to_owned())?;
    GramsPerKwh::new(number).map_err(|why| why.to_string())
}

fn valid_for(text: &str) -> Result<SignedDuration, String> {
    let span = parse_duration(text).filter(|span| !span.is_zero());
    let span = span.and_then(|span| SignedDuration::try_from(span).ok());
    span.ok_or_else(|| "give a time, such as 30m or 1h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_intensity_can_be_is_refused_before_anybody_is_asked() {
        for bad in ["-1", "NaN", "inf", "3001", "360 g", "", "1e999"] {
            assert!(g_per_kwh(bad).is_err(), "{bad:?}");
        }
        assert_eq!(g_per_kwh("360.5").map(GramsPerKwh::get), Ok(360.5));
        for bad in ["", "0s", "-1h", "1 fortnight", "NaN", "1e300h"] {
            assert!(valid_for(bad).is_err(), "{bad:?}");
        }
        assert_eq!(valid_for("1h"), Ok(SignedDuration::from_hours(1)));
    }

    #[test]
    fn an_agent_cannot_write_to_the_terminal_itself() {
        let intensity = Intensity {
            source: "a\x1b[2J\n".into(),
            ..zones::find("DE").unwrap().intensity()
        };
        let carbon = Carbon {
            intensity: Some(intensity.clone()),
            pue: Pue::new(1.5).unwrap(),
            stale: Some(intensity),
        };
        let text = render(&carbon, Style::PLAIN);
        assert!(!text.contains('\x1b'), "{text:?}");
        assert_eq!(text.lines().count(), 3, "{text:?}");
        assert!(text.contains("PUE            1.5"), "{text}");
    }

    #[test]
    fn no_intensity_is_said_in_words() {
        let text = render(&Carbon::default(), Style::PLAIN);
        assert_eq!(text, "intensity      not known: no carbon is counted\n");
    }
}
