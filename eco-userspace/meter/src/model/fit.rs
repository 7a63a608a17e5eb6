// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Fitting the model to what a true meter showed: non-negative least squares, and the error at
//! steps that the fit has not seen.
//!
//! With three coefficients the exact solution is found by trying every set of coefficients that
//! are not zero: the optimum is the plain least-squares solution on one of them.

use crate::profile::{Coefficients, FitError};

/// A fit that is further off than this on average is no better than the family table, whose
/// rows differ from single machines by tens of per cent. Our choice.
pub const MOST_ERROR_PERCENT: f64 = 20.0;

/// Power must rise by this share of the idle power for the load to be seen in it. Our choice.
const LEAST_RISE: f64 = 0.02;

/// The load must differ between steps by this share of the CPUs. Our choice.
const LEAST_SPREAD: f64 = 0.25;

/// A pivot below this share of its column is taken for zero: the columns are as good as parallel.
const LEAST_PIVOT: f64 = 1e-4;

/// The larger model is taken only where it predicts unseen steps this much better: otherwise
/// noise would share the watts out between columns that say nearly the same.
const WORTH_A_COLUMN: f64 = 0.9;

const COLUMNS: usize = 3;

/// A step of the load, as it was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// CPUs that were busy, on average.
    pub busy_cpus: f64,
    /// Current over highest frequency of those, from 0 to 1.
    pub frequency: f64,
    /// Cores of which any thread was busy, on average.
    pub active_cores: f64,
    /// Power, W.
    pub watts: f64,
}

/// A fit, and how good it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// What was fitted.
    pub coefficients: Coefficients,
    /// Each step predicted from the others.
    pub error: FitError,
}

/// Why no model of this machine follows from what was measured.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum FitFailure {
    /// Too few steps.
    #[error("{0} steps are too few: at least 3 are needed")]
    TooFew(usize),
    /// A point is not finite or negative.
    #[error("step {0} has no possible power or load")]
    Odd(usize),
    /// The steps hardly differ.
    #[error(
        "the load hardly changed between the steps ({least:.2} to {most:.2} busy CPUs of {cpus}): \
         other programs kept the CPUs busy, or took them away; stop them and try again"
    )]
    SameLoad {
        /// Busy CPUs in the step with the least load.
        least: f64,
        /// In the one with the most.
        most: f64,
        /// CPUs of the machine.
        cpus: u32,
    },
    /// The power does not follow the load.
    #[error(
        "the power did not rise with the load ({idle:.2} W at the least load, {full:.2} W at the \
         most): the meter does not see this machine's CPUs, or is too slow for steps this short"
    )]
    Flat {
        /// W at the step with the least load.
        idle: f64,
        /// W at the step with the most.
        full: f64,
    },
    /// The fit is no good.
    #[error(
        "the fit misses unseen steps by {mean:.1} % on average (at most {MOST_ERROR_PERCENT} % is \
         of use): something else drew power meanwhile, or the meter needs longer steps \
         (--seconds)"
    )]
    Worthless {
        /// Mean leave-one-out error, in per cent.
        mean: f64,
    },
}

/// Fits the model to at least three points of a machine with `cpus` CPUs.
///
/// # Errors
/// When the result would be worth nothing: see [`FitFailure`].
pub fn fit(points: &[Point], cpus: u32) -> Result<Fit, FitFailure> {
    if points.len() < 3 {
        return Err(FitFailure::TooFew(points.len()));
    }
    if let Some(odd) = points.iter().position(|point| !point.is_possible()) {
        return Err(FitFailure::Odd(odd + 1));
    }
    let by_load = |a: &&Point, b: &&Point| a.busy_cpus.total_cmp(&b.busy_cpus);
    let (Some(least), Some(most)) = (points.iter().min_by(by_load), points.iter().max_by(by_load))
    else {
        return Err(FitFailure::TooFew(0));
    };
    if most.busy_cpus - least.busy_cpus < LEAST_SPREAD * f64::from(cpus) {
        return Err(FitFailure::SameLoad {
            least: least.busy_cpus,
            most: most.busy_cpus,
            cpus,
        });
    }
    if most.watts - least.watts <= LEAST_RISE * least.watts {
        return Err(FitFailure::Flat {
            idle: least.watts,
            full: most.watts,
        });
    }
    let simple = leave_one_out(points, 2);
    let whole = leave_one_out(points, COLUMNS);
    let (columns, error) = if whole.mean_watts < WORTH_A_COLUMN * simple.mean_watts {
        (COLUMNS, whole)
    } else {
        (2, simple)
    };
    if error.mean_percent.is_nan() || error.mean_percent > MOST_ERROR_PERCENT {
        return Err(FitFailure::Worthless {
            mean: error.mean_percent,
        });
    }
    let [idle_watts, busy_cpu_watts, active_core_watts] = solve(points, columns);
    Ok(Fit {
        coefficients: Coefficients {
            idle_watts,
            busy_cpu_watts,
            active_core_watts,
        },
        error,
    })
}

impl Point {
    fn columns(&self) -> [f64; COLUMNS] {
        [1.0, self.busy_cpus * self.frequency, self.active_cores]
    }

    fn is_possible(&self) -> bool {
        [
            self.busy_cpus,
            self.frequency,
            self.active_cores,
            self.watts,
        ]
        .iter()
        .all(|value| value.is_finite() && *value >= 0.0)
            && self.watts > 0.0
    }
}

fn leave_one_out(points: &[Point], columns: usize) -> FitError {
    let mut error = FitError::default();
    let count = points.len() as f64;
    let mut rest = Vec::with_capacity(points.len());
    for (index, point) in points.iter().enumerate() {
        rest.clear();
        rest.extend(points.iter().enumerate().filter(|(i, _)| *i != index));
        let seen: Vec<Point> = rest.iter().map(|(_, point)| **point).collect();
        let watts = (predict(&solve(&seen, columns), point) - point.watts).abs();
        let percent = 100.0 * watts / point.watts;
        error.mean_watts += watts / count;
        error.mean_percent += percent / count;
        error.worst_watts = error.worst_watts.max(watts);
        error.worst_percent = error.worst_percent.max(percent);
    }
    error
}

fn predict(coefficients: &[f64; COLUMNS], point: &Point) -> f64 {
    coefficients
        .iter()
        .zip(point.columns())
        .map(|(coefficient, column)| coefficient * column)
        .sum()
}

/// The best non-negative coefficients among the first `columns`.
fn solve(points: &[Point], columns: usize) -> [f64; COLUMNS] {
    let mut best = ([0.0; COLUMNS], f64::INFINITY);
    for set in 1u32..(1 << columns) {
        let chosen: Vec<usize> = (0..columns).filter(|i| set & (1 << i) != 0).collect();
        let Some(solution) = least_squares(points, &chosen) else {
            continue;
        };
        if solution.iter().any(|value| *value < 0.0) {
            continue;
        }
        let residual: f64 = points
            .iter()
            .map(|point| (predict(&solution, point) - point.watts).powi(2))
            .sum();
        if residual < best.1 {
            best = (solution, residual);
        }
    }
    best.0
}

/// Plain least squares on some columns, by the normal equations; `None` where the points do not
/// tell the columns apart.
#[expect(
    clippy::needless_range_loop,
    reason = "elimination reads as in a textbook: by row and column"
)]
fn least_squares(points: &[Point], chosen: &[usize]) -> Option<[f64; COLUMNS]> {
    let size = chosen.len();
    let mut system = [[0.0; COLUMNS + 1]; COLUMNS];
    for point in points {
        let columns = point.columns();
        for (row, &i) in chosen.iter().enumerate() {
            for (column, &j) in chosen.iter().enumerate() {
                system[row][column] += columns[i] * columns[j];
            }
            system[row][size] += columns[i] * point.watts;
        }
    }
    // What a column's square sum was: its pivot is what the columns before it leave of that.
    let whole: Vec<f64> = (0..size).map(|i| system[i][i]).collect();
    // The matrix is positive semidefinite, so that elimination needs no exchange of rows.
    for pivot in 0..size {
        if system[pivot][pivot] <= LEAST_PIVOT * whole[pivot] {
            return None;
        }
        for row in pivot + 1..size {
            let factor = system[row][pivot] / system[pivot][pivot];
            for column in pivot..=size {
                system[row][column] -= factor * system[pivot][column];
            }
        }
    }
    let mut solution = [0.0; COLUMNS];
    for row in (0..size).rev() {
        let known: f64 = (row + 1..size)
            .map(|column| system[row][column] * solution[chosen[column]])
            .sum();
        solution[chosen[row]] = (system[row][size] - known) / system[row][row];
    }
    Some(solution)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Idle, one thread, one thread a core, both threads of half the cores, all; 4 cores, SMT.
    const SMT_LOADS: [(f64, f64); 5] =
        [(0.02, 0.02), (1.0, 1.0), (4.0, 4.0), (4.0, 2.0), (8.0, 4.0)];
    const CLOCKS: [f64; 5] = [0.5, 1.0, 0.9, 0.95, 0.8];

    fn truth(idle: f64, busy: f64, active: f64, noise: [f64; 5]) -> Vec<Point> {
        (0..5)
            .map(|i| {
                let (busy_cpus, active_cores) = SMT_LOADS[i];
                let watts = idle + busy * busy_cpus * CLOCKS[i] + active * active_cores;
                Point {
                    busy_cpus,
                    frequency: CLOCKS[i],
                    active_cores,
                    watts: watts * (1.0 + noise[i]),
                }
            })
            .collect()
    }

    #[test]
    fn the_truth_is_found_where_nothing_disturbs_it() {
        let fit = fit(&truth(20.0, 3.0, 4.0, [0.0; 5]), 8).unwrap();
        let found = fit.coefficients;
        assert!((found.idle_watts - 20.0).abs() < 1e-6, "{found:?}");
        assert!((found.busy_cpu_watts - 3.0).abs() < 1e-6, "{found:?}");
        assert!((found.active_core_watts - 4.0).abs() < 1e-6, "{found:?}");
        assert!(fit.error.worst_watts < 1e-6);
    }

    #[test]
    fn where_cores_and_cpus_say_the_same_the_cpus_get_the_watts() {
        let points: Vec<Point> = [0.0, 1.0, 2.0, 4.0]
            .map(|busy| Point {
                busy_cpus: busy,
                frequency: 1.0,
                active_cores: busy,
                watts: 10.0 + 5.0 * busy,
            })
            .to_vec();
        let found = fit(&points, 4).unwrap().coefficients;
        assert!((found.busy_cpu_watts - 5.0).abs() < 1e-9, "{found:?}");
        assert_eq!(found.active_core_watts, 0.0);
    }

    #[test]
    fn no_coefficient_is_negative_even_where_that_fits_best() {
        let points: Vec<Point> = [(0.0, 0.0), (1.0, 3.0), (2.0, 9.0), (4.0, 25.0)]
            .map(|(busy_cpus, watts)| Point {
                busy_cpus,
                frequency: 1.0,
                active_cores: busy_cpus,
                watts: watts + 0.5,
            })
            .to_vec();
        let [idle, busy, active] = solve(&points, COLUMNS);
        assert!(
            idle >= 0.0 && busy > 0.0 && active >= 0.0,
            "{idle} {busy} {active}"
        );
    }

    #[test]
    fn what_is_worth_nothing_is_refused_with_the_reason() {
        let points = truth(20.0, 3.0, 4.0, [0.0; 5]);
        assert_eq!(fit(&points[..2], 8), Err(FitFailure::TooFew(2)));
        let mut odd = points.clone();
        odd[1].watts = f64::NAN;
        assert_eq!(fit(&odd, 8), Err(FitFailure::Odd(2)));
        odd[1].watts = 0.0;
        assert_eq!(fit(&odd, 8), Err(FitFailure::Odd(2)));
        let flat = truth(20.0, 0.0, 0.0, [0.0; 5]);
        assert!(matches!(fit(&flat, 8), Err(FitFailure::Flat { .. })));
        let mut same = points.clone();
        for point in &mut same {
            point.busy_cpus = 8.0;
        }
        assert!(matches!(fit(&same, 8), Err(FitFailure::SameLoad { .. })));
        let wild = truth(20.0, 3.0, 4.0, [0.9, -0.9, 1.5, -0.8, 2.0]);
        assert!(matches!(fit(&wild, 8), Err(FitFailure::Worthless { .. })));
    }

    proptest! {
            #[test]
            fn noise_of_one_per_cent_leaves_an_error_of_a_few(
                idle in 5.0..200.0f64,
                busy in 1.0..20.0f64,
                active in 0.0..20.0f64,
                noise in prop::array::uniform5(-0.01..0.01f64),
            ) {
                let points = truth(idle, busy, active, noise);
                let exact = truth(idle, busy, active, [0.0; 5]);
                let full = exact.iter().map(|point| point.watts).fold(0.0, f64::max);
                match fit(&points, 8) {
                    // A rise as small as the noise may well be missed, and is then refused.
                    Err(FitFailure::Flat { .. }) => prop_assert!(8.0 * busy < 0.1 * idle),
                    Err(other) => prop_assert!(false, "{other}"),
                    Ok(fit) => for point in exact {
                        let c = fit.coefficients;
                        let watts = predict(
                            &[c.idle_watts, c.busy_cpu_watts, c.active_core_watts],
                            &point,
                        );
                        prop_assert!(c.idle_watts >= 0.0 && c.busy_cpu_watts >= 0.0);
    prop_assert!((watts - point.watts).abs() < 0.05 * full, "{watts} {point:?}");
                    },
                }
            }
        }
}
