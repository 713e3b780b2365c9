//! Draws lines over the number of Pods, as SVG.

use std::fmt;
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

/// Size of the picture, in pixels.
const SIZE: (u32, u32) = (720, 400);

/// Colours of the lines, in their order. They can be distinguished in print and by the colour-blind (Okabe and Ito).
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];

/// A picture with a line for each name.
#[derive(Debug)]
pub struct Plot {
    /// Name of the file without its extension.
    pub file: &'static str,
    /// Label of the vertical axis, with its unit.
    pub title: &'static str,
    /// Label of the horizontal axis.
    pub over: &'static str,
    /// Points by name.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
}

impl Plot {
    /// Writes the picture into the directory.
    pub fn draw(&self, folder: &Path) -> Result<()> {
        let path = folder.join(self.file).with_extension("svg");
        self.draw_on(&SVGBackend::new(&path, SIZE).into_drawing_area())
            .map_err(|error| anyhow!("{}: {error}", path.display()))
    }

    fn draw_on(
        &self,
        area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        area.fill(&WHITE)?;
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let right = points().map(|point| point.0).fold(1.0, f64::max);
        let top = points().map(|point| point.1).fold(0.0, f64::max) * 1.1;
        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(56)
            .build_cartesian_2d(0.0..right, 0.0..top)?;
        chart.configure_mesh().x_desc(self.over).light_line_style(WHITE).draw()?;
        for ((name, points), colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
            let style = colour.stroke_width(2);
            let line = LineSeries::new(points.iter().copied(), style).point_size(3);
            let sample = move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style);
            chart.draw_series(line)?.label(name).legend(sample);
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()?;
        Ok(area.present()?)
    }
}

impl fmt::Display for Plot {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(to, "![{}](benchmarks/{}.svg)", self.title, self.file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_its_name_is_drawn() -> Result<()> {
        let folder = std::env::temp_dir();
        let points = vec![(1.0, 3.5), (10.0, 2.5), (400.0, 2.25)];
        let lines = vec![("this shim".to_owned(), points)];
        let file = "bench-plot-test";
        Plot { file, title: "PSS, MB", over: "idle Pods", lines }.draw(&folder)?;
        let path = folder.join(file).with_extension("svg");
        let text = std::fs::read_to_string(&path)?;
        std::fs::remove_file(path)?;
        assert!(text.contains("<polyline") && text.contains("this shim"), "{text}");
        Ok(())
    }
}
