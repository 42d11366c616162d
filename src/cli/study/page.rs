//! A page of headings, text, tables and figures, written as Markdown and as HTML that needs no other file.

use super::draw;
use multi_entity_vae::files::FileError;
use multi_entity_vae::picture::escaped;
use std::path::Path;

/// A part of a page. In texts, `backticks` set code.
pub enum Block {
    Heading(String),
    Text(String),
    List(Vec<String>),
    Code(String),
    Table { head: Vec<String>, rows: Vec<Vec<String>> },
    Figure { file: String, caption: String },
}

/// A page.
pub struct Page {
    pub title: String,
    pub blocks: Vec<Block>,
}

const STYLE: &str = "\
:root{color-scheme:light}
body{font:16px/1.55 system-ui,-apple-system,'Segoe UI','Noto Sans','DejaVu Sans',Helvetica,Arial,sans-serif;color:#1f2328;background:#fff;max-width:62rem;margin:2rem auto;padding:0 1.2rem}
h1,h2{line-height:1.2}
h2{margin-top:2.4rem;border-bottom:1px solid #d0d7de;padding-bottom:.3rem}
table{border-collapse:collapse;display:block;overflow-x:auto}
th,td{border:1px solid #d0d7de;padding:.3rem .6rem;text-align:right}
th:first-child,td:first-child{text-align:left}
th{background:#f6f8fa}
figure{margin:1.4rem 0}
figure img{max-width:100%;height:auto;border:1px solid #d0d7de;border-radius:6px}
figcaption{color:#59636e}
code,pre{font-family:ui-monospace,'SF Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:.9em}
code{background:#f6f8fa;padding:.1em .3em;border-radius:4px}
pre{background:#f6f8fa;padding:.8rem;overflow-x:auto;border-radius:6px}
pre code{padding:0}
";

impl Page {
    pub fn markdown(&self) -> String {
        let mut text = format!("# {}\n", self.title);
        for block in &self.blocks {
            text.push('\n');
            text += &match block {
                Block::Heading(words) => format!("## {words}\n"),
                Block::Text(words) => format!("{words}\n"),
                Block::List(items) => items.iter().map(|item| format!("- {item}\n")).collect(),
                Block::Code(code) => format!("```sh\n{code}\n```\n"),
                Block::Table { head, rows } => {
                    let line = |cells: &[String]| {
                        let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', r"\|")).collect();
                        format!("| {} |\n", cells.join(" | "))
                    };
                    let rule = format!("|{}\n", "---|".repeat(head.len()));
                    line(head) + &rule + &rows.iter().map(|row| line(row)).collect::<String>()
                }
                Block::Figure { file, caption } => format!("![{caption}]({file})\n\n{caption}\n"),
            };
        }
        text
    }

    /// With the figures, which lie in `folder`, inside it.
    pub fn html(&self, folder: &Path) -> Result<String, FileError> {
        let title = escaped(&self.title);
        let mut html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
             content=\"width=device-width\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        );
        for block in &self.blocks {
            html += &block.html(folder)?;
        }
        Ok(html + "</body>\n</html>\n")
    }
}

impl Block {
    fn html(&self, folder: &Path) -> Result<String, FileError> {
        Ok(match self {
            Self::Heading(words) => format!("<h2>{}</h2>\n", inline(words)),
            Self::Text(words) => format!("<p>{}</p>\n", inline(words)),
            Self::List(items) => {
                let items: String = items.iter().map(|item| format!("<li>{}</li>\n", inline(item))).collect();
                format!("<ul>\n{items}</ul>\n")
            }
            Self::Code(code) => format!("<pre><code>{}</code></pre>\n", lines_escaped(code)),
            Self::Table { head, rows } => {
                let line = |tag: &str, cells: &[String]| {
                    let cells: String = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", inline(cell))).collect();
                    format!("<tr>{cells}</tr>\n")
                };
                let rows: String = rows.iter().map(|row| line("td", row)).collect();
                format!("<table>\n{}{rows}</table>\n", line("th", head))
            }
            Self::Figure { file, caption } => {
                let path = folder.join(file);
                let bytes = std::fs::read(&path).map_err(FileError::refused("read", &path))?;
                let kind = match path.extension().is_some_and(|e| e == "svg") {
                    true => "svg+xml",
                    false => "png",
                };
                let (data, caption) = (base64(&bytes), inline(caption));
                let width = png_width(&bytes).map_or(String::new(), |width| {
                    format!(" width=\"{}\"", (f64::from(width) / draw::DENSITY.factor()).round())
                });
                format!(
                    "<figure>\n<img src=\"data:image/{kind};base64,{data}\"{width} alt=\"{}\">\n<figcaption>{caption}</figcaption>\n</figure>\n",
                    escaped(file)
                )
            }
        })
    }
}

/// Pixels that a PNG is wide, from its header (PNG specification, 11.2.1).
fn png_width(bytes: &[u8]) -> Option<u32> {
    let header = bytes.strip_prefix(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")?;
    Some(u32::from_be_bytes(*header.first_chunk()?))
}

/// Text as HTML, with what stands between backticks as code.
fn inline(text: &str) -> String {
    let mut html = String::new();
    for (part, text) in text.split('`').enumerate() {
        let text = escaped(text);
        html += &if part % 2 == 0 { text } else { format!("<code>{text}</code>") };
    }
    html
}

fn lines_escaped(code: &str) -> String {
    code.lines().map(escaped).collect::<Vec<_>>().join("\n")
}

/// Base64 with padding (RFC 4648, section 4).
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for letter in 0..4 {
            let index = (bits >> (18 - 6 * letter)) as usize & 63;
            text.push(if letter <= three.len() { LETTERS[index] as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        // RFC 4648, section 10.
        let cases =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE=")];
        for (plain, encoded) in cases {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
        assert_eq!(base64(&[255, 254, 253]), "//79");
    }

    #[test]
    fn a_page_has_its_figures_inside_and_nothing_unescaped() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.png"), b"foo").unwrap();
        let blocks = vec![
            Block::Text("x < y, as in `a & b`".into()),
            Block::Table { head: vec!["h".into()], rows: vec![vec!["1|2".into()]] },
            Block::Figure { file: "a.png".into(), caption: "a \"figure\"".into() },
        ];
        let page = Page { title: "T".into(), blocks };
        let html = page.html(folder.path()).unwrap();
        assert!(html.contains("<p>x &lt; y, as in <code>a &amp; b</code></p>"));
        assert!(html.contains("src=\"data:image/png;base64,Zm9v\"") && !html.contains("src=\"a.png"));
        assert!(page.markdown().contains(r"| 1\|2 |") && page.markdown().contains("](a.png)"));
        let sheet = multi_entity_vae::picture::png(&image::RgbImage::new(640, 2)).unwrap();
        std::fs::write(folder.path().join("a.png"), sheet).unwrap();
        assert!(page.html(folder.path()).unwrap().contains("\" width=\"320\" alt=\"a.png\""), "a dense sheet");
        std::fs::remove_file(folder.path().join("a.png")).unwrap();
        assert!(page.html(folder.path()).is_err());
    }
}
