//! Machine code as `cuobjdump --dump-sass` prints it, and the loops in it.

use std::collections::BTreeMap;

/// One instruction.
#[derive(Debug, PartialEq, Eq)]
struct Instruction {
    address: u64,
    /// As `IDP.4A.U8.S8`.
    opcode: String,
    /// Where a branch goes.
    target: Option<u64>,
}

/// What tells a kernel's main loop from its others: the one with most of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Loads of weights (`load_stream`): from global memory, kept out of the L1.
    Stream,
    /// Products on integer and tensor units.
    Products,
}

impl Mark {
    fn is(self, opcode: &str) -> bool {
        let mut parts = opcode.split('.');
        let family = parts.next();
        match self {
            Mark::Stream => family == Some("LDG") && parts.any(|part| part == "NA"),
            Mark::Products => matches!(family, Some("IDP" | "IMMA" | "HMMA")),
        }
    }
}

/// The instructions of every function in a listing, by its name.
pub(crate) struct Listing(BTreeMap<String, Vec<Instruction>>);

impl Listing {
    /// Reads what `cuobjdump --dump-sass` printed.
    pub(crate) fn parse(text: &str) -> Listing {
        let mut functions: BTreeMap<String, Vec<Instruction>> = BTreeMap::new();
        let mut current = None;
        for line in text.lines() {
            let line = line.trim();
            if let Some(name) = line.strip_prefix("Function : ") {
                current = Some(functions.entry(name.to_owned()).or_default());
            } else if let (Some(list), Some(instruction)) = (current.as_mut(), instruction(line)) {
                list.push(instruction);
            }
        }
        Listing(functions)
    }

    /// Instructions of a function's main loop: of the loops without another inside, the one with the most
    /// marks. `None` if there is no such function, loop or mark.
    ///
    /// Parts that an iteration may skip count in full.
    pub(crate) fn main_loop(&self, function: &str, mark: Mark) -> Option<usize> {
        let list = self.0.get(function)?;
        let backward = |i: &&Instruction| i.target.is_some_and(|target| target <= i.address);
        let loops: Vec<(u64, u64)> =
            list.iter().filter(backward).filter_map(|i| Some((i.target?, i.address))).collect();
        let innermost = |&&(start, end): &&(u64, u64)| {
            !loops.iter().any(|&(s, e)| start <= s && e <= end && (s, e) != (start, end))
        };
        let inside =
            |start: u64, end: u64| list.iter().filter(move |i| start <= i.address && i.address <= end);
        let count = |&&(start, end): &&(u64, u64)| inside(start, end).filter(|i| mark.is(&i.opcode)).count();
        let &(start, end) = loops.iter().filter(innermost).max_by_key(count)?;
        (count(&&(start, end)) > 0).then(|| inside(start, end).count())
    }
}

/// The instruction of a line `/*0410*/  @P2 BRA 0x570 ;  /* encoding */`.
fn instruction(line: &str) -> Option<Instruction> {
    let (address, rest) = line.strip_prefix("/*")?.split_once("*/")?;
    let (text, _) = rest.split_once(';')?;
    let mut words = text.split_whitespace().skip_while(|word| word.starts_with('@'));
    let opcode = words.next()?;
    let family = opcode.split('.').next()?.to_owned();
    let target =
        if family == "BRA" { words.last().and_then(|w| hexadecimal(w.strip_prefix("0x")?)) } else { None };
    Some(Instruction { address: hexadecimal(address)?, opcode: opcode.to_owned(), target })
}

fn hexadecimal(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The form of cuobjdump 13.5, shortened: an outer loop with two inside, and a jump back from code
    /// moved out of the way.
    const LISTING: &str = "
	code for sm_87
		Function : first
        /*0000*/                   MOV R1, R2 ;                    /* 0x1 */
                                                                   /* 0x2 */
        /*0010*/                   LDG.E.128 R4, [R2.64] ;         /* 0x1 */
        /*0020*/                   FADD R4, R5, R6 ;               /* 0x1 */
        /*0030*/              @!P0 BRA 0x20 ;                      /* 0x1 */
        /*0040*/                   LDS.128 R8, [R1] ;              /* 0x1 */
        /*0050*/               @P1 BRA 0x70 ;                      /* 0x1 */
        /*0060*/                   IDP.4A.U8.S8 R4, R5, R6, R4 ;   /* 0x1 */
        /*0070*/                   IDP.4A.U8.S8 R4, R5, R6, R4 ;   /* 0x1 */
        /*0080*/              @!P0 BRA P3, 0x40 ;                  /* 0x1 */
        /*0090*/               @P2 BRA 0x10 ;                      /* 0x1 */
        /*00a0*/                   EXIT ;                          /* 0x1 */
		Function : second
        /*0000*/                   LDG.E.128.STRONG.GPU R4, [R2] ; /* 0x1 */
        /*0010*/                   LDG.E.128.STRONG.GPU R8, [R2] ; /* 0x1 */
        /*0020*/               @P2 BRA 0x0 ;                       /* 0x1 */
        /*0030*/                   LDG.E.NA.128.CONSTANT R4, [R2]; /* 0x1 */
        /*0040*/               @P2 BRA 0x30 ;                      /* 0x1 */
		Function : third
        /*0000*/                   IDP.4A.U8.S8 R4, R5, R6, R4 ;   /* 0x1 */
        /*0010*/                   EXIT ;                          /* 0x1 */
";

    #[test]
    fn the_innermost_loop_with_most_marks_counts() {
        let listing = Listing::parse(LISTING);
        assert_eq!(listing.main_loop("first", Mark::Products), Some(5), "0x40 to 0x80");
        assert_eq!(listing.main_loop("second", Mark::Products), None);
        assert_eq!(listing.main_loop("second", Mark::Stream), Some(2));
        assert_eq!(listing.main_loop("third", Mark::Products), None);
        assert_eq!(listing.main_loop("fourth", Mark::Products), None);
    }

    #[test]
    fn predicates_and_targets_are_read() {
        let read = instruction("/*0410*/               @P2 BRA 0x570 ;         /* 0x0000015000002947 */");
        assert_eq!(read, Some(Instruction { address: 0x410, opcode: "BRA".into(), target: Some(0x570) }));
        let read = instruction("/*0740*/               BRA.DIV ~URZ, 0x2cc0 ;   /* 0x1 */").unwrap();
        assert_eq!(read.target, Some(0x2cc0));
        assert_eq!(instruction("/* 0x000fda000bf05070 */"), None);
        assert_eq!(instruction(".headerflags	@\"EF_CUDA_SM87\""), None);
    }
}
