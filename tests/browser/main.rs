//! Tests of the web page in headless Chromium, with a real server behind it.

mod page;
mod safety;
