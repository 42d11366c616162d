//! The kernels on the CPU: compiled as C++ by the system's compiler, checked for accesses out of bounds where it can, and run in a process
//! of their own for each launch. What a test with it shows is that indices and formulae are right; products are candle's.

use super::SOURCE;
use super::machine::{Launch, Machine, Operand, Sizes};
use candle_core::{CpuStorage, Result, Storage, bail};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Whether there is a twin; tests without one have nothing to say.
pub fn exists() -> bool {
    let exists = program().is_some();
    if !exists {
        skipped("no C++ compiler to compile the GPU kernels with");
    }
    exists
}

/// Says why a test has nothing to check; what it printed in the usual way would not be shown, because it passes.
pub fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// The compiled program; nothing where there is no compiler. Kernels that do not compile are a failure.
fn program() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    let compile = || {
        let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".into());
        Command::new(&compiler).arg("--version").output().ok().filter(|output| output.status.success())?;
        let folder = tempfile::tempdir().unwrap();
        let (source, program) = (folder.path().join("twin.cpp"), folder.path().join("twin"));
        let twin = include_str!("twin.cpp");
        std::fs::write(&source, format!("#define TWIN_BEFORE\n{twin}\n#undef TWIN_BEFORE\n{SOURCE}\n{twin}")).unwrap();
        let with = |flags: &[&str]| {
            let mut command = Command::new(&compiler);
            command.args(["-std=c++17", "-O1", "-w", "-rdynamic", "-o"]).arg(&program).arg(&source).args(flags);
            command.arg("-ldl").output().unwrap()
        };
        // Not every compiler has its checks installed.
        let checked = with(&["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]);
        let compiled = if checked.status.success() { checked } else { with(&[]) };
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        Some((folder, program))
    };
    PROGRAM.get_or_init(compile).as_ref().map(|(_, program)| program.as_path())
}

fn run(launch: &Launch, buffers: [&[f32]; 5], changed: usize) -> Result<Vec<f32>> {
    let Some(program) = program() else { bail!("there is no twin") };
    let blocks = usize::try_from(launch.sizes.n).unwrap_or(0).div_ceil(256);
    let mut child = Command::new(program)
        .args([launch.kernel, &blocks.to_string(), &changed.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let Sizes { n, of, number } = launch.sizes;
    let mut bytes: Vec<u8> = [n].iter().chain(&of).flat_map(|i| i.to_ne_bytes()).collect();
    bytes.extend(number.iter().flat_map(|x| x.to_ne_bytes()));
    for buffer in buffers {
        bytes.extend((buffer.len() as u64).to_ne_bytes());
        bytes.extend(buffer.iter().flat_map(|x| x.to_ne_bytes()));
    }
    // Taken, so that it is closed when all is written.
    child.stdin.take().map(|mut stdin| stdin.write_all(&bytes)).transpose()?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("the twin of {} ended with {}", launch.kernel, output.status);
    }
    let numbers = output.stdout.chunks_exact(4);
    Ok(numbers.map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect())
}

fn numbers<'a>(operand: &Operand<'a, CpuStorage>) -> Result<&'a [f32]> {
    let all = operand.storage.as_slice::<f32>()?;
    Ok(&all[operand.offset..operand.offset + operand.len])
}

impl Machine for CpuStorage {
    fn launch(launch: &Launch, inputs: [Operand<'_, Self>; 4]) -> Result<Self> {
        // What a kernel does not write stays visible.
        let unwritten = vec![f32::from_bits(UNWRITTEN); launch.outputs];
        let [a, b, c, d] = [numbers(&inputs[0])?, numbers(&inputs[1])?, numbers(&inputs[2])?, numbers(&inputs[3])?];
        let output = run(launch, [&unwritten, a, b, c, d], 1)?;
        if output.len() != launch.outputs || output.iter().any(|x| x.to_bits() == UNWRITTEN) {
            bail!("{} does not write all of its output", launch.kernel);
        }
        Ok(Self::F32(output))
    }

    fn launch_in_place(launch: &Launch, changed: [&mut Self; 3], input: Operand<'_, Self>) -> Result<()> {
        let input = numbers(&input)?;
        let buffers = [changed[0].as_slice()?, changed[1].as_slice()?, changed[2].as_slice()?, input, &[]];
        let output = run(launch, buffers, 3)?;
        for (buffer, numbers) in changed.into_iter().zip(output.chunks_exact(launch.outputs)) {
            *buffer = Self::F32(numbers.to_vec());
        }
        Ok(())
    }

    fn of(storage: &Storage) -> Result<&Self> {
        match storage {
            Storage::Cpu(storage) => Ok(storage),
            _ => bail!("the twin works on the CPU"),
        }
    }

    fn into_storage(self) -> Storage {
        Storage::Cpu(self)
    }
}

/// A NaN that no arithmetic makes.
const UNWRITTEN: u32 = 0x7fab_cdef;
