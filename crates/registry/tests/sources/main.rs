//! Images are taken from layouts and archives: honest ones, some made by real tools, and hostile ones.

mod archives;
mod hostile;
mod images;
mod layouts;
mod remote;
