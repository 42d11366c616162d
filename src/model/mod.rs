mod variables;
pub use variables::Variables;
