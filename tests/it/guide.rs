//! The tenants' guides: their tables equal the code's, and their examples run
//! against callbacks of a real service.

mod examples;
mod tables;

use std::sync::LazyLock;

const ENGLISH: &str = "tenant-guide.en.md";
const CHINESE: &str = "tenant-guide.zh.md";

/// One guide.
struct Guide {
    name: &'static str,
    text: &'static str,
}

static GUIDES: LazyLock<[Guide; 2]> = LazyLock::new(|| {
    [
        Guide {
            name: ENGLISH,
            text: include_str!("../../deploy/tenant-guide.en.md"),
        },
        Guide {
            name: CHINESE,
            text: include_str!("../../deploy/tenant-guide.zh.md"),
        },
    ]
});

impl Guide {
    /// Returns the fenced blocks of a language.
    fn blocks(&self, language: &str) -> Vec<&'static str> {
        let fence = format!("```{language}\n");
        let blocks = self.text.split(&fence[..]).skip(1);
        blocks
            .map(|block| block.split_once("```").expect("every block ends").0)
            .collect()
    }
}
