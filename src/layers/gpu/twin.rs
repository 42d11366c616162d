//! The kernels on the CPU: compiled as C++ by the system's compiler, checked for accesses out of bounds where it can, and run in a process
//! of their own for each launch. What a test with it shows is that indices and formulae are right; products are candle's.

use super::SOURCE;
use super::machine::{BLOCK, Launch, Machine, Operand, Shares, Sizes};
use candle_core::{CpuStorage, Result, Storage, Tensor, bail};
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

fn run(launch: &Launch, buffers: [&[f32]; 5], changed: usize, many: Option<(Shares, &[Vec<f32>])>) -> Result<Vec<f32>> {
    let Some(program) = program() else { bail!("there is no twin") };
    let blocks = usize::try_from(launch.sizes.n).unwrap_or(0).div_ceil(BLOCK);
    let parameters = many.as_ref().map_or(0, |(_, buffers)| buffers.len() / 4);
    let mut child = Command::new(program)
        .args([launch.kernel, &blocks.to_string(), &changed.to_string(), &parameters.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // The sanitizer has a word to say about every run of a kernel in blocks.
        .stderr(Stdio::piped())
        .spawn()?;
    let Sizes { n, of, number } = launch.sizes;
    let integers = |integers: &[i32]| integers.iter().flat_map(|i| i.to_ne_bytes()).collect::<Vec<u8>>();
    let mut bytes = [integers(&[n]), integers(&of)].concat();
    bytes.extend(number.iter().flat_map(|x| x.to_ne_bytes()));
    let add = |bytes: &mut Vec<u8>, buffer: &[f32]| {
        bytes.extend((buffer.len() as u64).to_ne_bytes());
        bytes.extend(buffer.iter().flat_map(|x| x.to_ne_bytes()));
    };
    buffers.iter().for_each(|buffer| add(&mut bytes, buffer));
    if let Some((Shares { count, first_block, length }, buffers)) = many {
        bytes.extend([integers(&[count]), integers(&first_block), integers(&length)].concat());
        buffers.iter().for_each(|buffer| add(&mut bytes, buffer));
    }
    // Taken, so that it is closed when all is written.
    child.stdin.take().map(|mut stdin| stdin.write_all(&bytes)).transpose()?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "the twin of {} ended with {}: {}",
            launch.kernel,
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
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
        let output = run(launch, [&unwritten, a, b, c, d], 1, None)?;
        if output.len() != launch.outputs || output.iter().any(|x| x.to_bits() == UNWRITTEN) {
            bail!("{} does not write all of its output", launch.kernel);
        }
        Ok(Self::F32(output))
    }

    fn launch_in_place(launch: &Launch, changed: Vec<&mut Self>, inputs: &[Operand<'_, Self>]) -> Result<()> {
        let inputs = inputs.iter().map(numbers).collect::<Result<Vec<_>>>()?;
        let mut buffers: [&[f32]; 5] = [&[]; 5];
        for (to, storage) in buffers.iter_mut().zip(&changed) {
            *to = storage.as_slice()?;
        }
        buffers[changed.len()..].iter_mut().zip(inputs).for_each(|(to, input)| *to = input);
        let mut output = run(launch, buffers, changed.len(), None)?;
        for buffer in changed {
            let rest = output.split_off(buffer.as_slice::<f32>()?.len());
            *buffer = Self::F32(std::mem::replace(&mut output, rest));
        }
        Ok(())
    }

    fn launch_many(launch: &Launch, many: &[[&Tensor; 4]], with: Operand<'_, Self>) -> Result<Self> {
        let out = vec![0.0; launch.outputs];
        let all = many.iter().flatten().map(|tensor| tensor.flatten_all()?.to_vec1()).collect::<Result<Vec<_>>>()?;
        let lengths: Vec<usize> = many.iter().map(|[parameter, ..]| parameter.elem_count()).collect();
        let buffers: [&[f32]; 5] = [&out, numbers(&with)?, &[], &[], &[]];
        let mut output = run(launch, buffers, 1, Some((Shares::of(&lengths)?, &all)))?;
        let mut rest = output.split_off(launch.outputs);
        for ([parameter, mean, square, _], length) in many.iter().zip(lengths) {
            for tensor in [parameter, mean, square] {
                let after = rest.split_off(length);
                super::write(tensor, &std::mem::replace(&mut rest, after))?;
            }
        }
        Ok(Self::F32(output))
    }

    fn write(&mut self, numbers: &[f32]) -> Result<()> {
        let Self::F32(all) = self else { bail!("the twin writes f32") };
        all[..numbers.len()].copy_from_slice(numbers);
        Ok(())
    }

    fn rounds_products() -> bool {
        false
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
