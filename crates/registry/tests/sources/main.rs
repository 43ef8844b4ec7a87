//! Images are taken from layouts, folders and archives: honest ones, some made by real tools, and hostile ones.

mod archives;
mod attached;
mod dirs;
mod hostile;
mod images;
mod layouts;
mod remote;
