//! Plots, tables and the HTML page about a run: typed plain data in, text out.
//!
//! [`plot`] draws SVG charts and sheets of images, [`table`] has one table for CSV, Markdown, HTML
//! and a figure's curves, [`facts`] says in words what a run is, and [`report`] puts a run's
//! results on one page.
//!
//! ```
//! use tweedie_report::plot::{LineChart, Scale};
//! use tweedie_report::table::{Cell, Table};
//! let mut table = Table::new(["covariance", "steps", "nats"]);
//! for (covariance, steps, nats) in [("own", 5, -2.1), ("own", 50, -1.4), ("beta", 5, -4.0)] {
//!     table.push([covariance.into(), Cell::Count(steps), Cell::measured(nats, 0.02, 2)]);
//! }
//! let series = table.series("covariance", "steps", "nats");
//! let chart = LineChart { x_scale: Scale::Log, series, ..Default::default() };
//! assert!(chart.to_svg(640, 360).contains(">beta</text>"));
//! assert!(table.markdown().contains("| own | 50 | −1.40 ± 0.02 |"));
//! ```

pub mod facts;
mod number;
pub mod plot;
pub mod report;
pub mod table;
