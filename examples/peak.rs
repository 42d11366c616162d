use std::time::Instant;
fn g(m:usize,n:usize,k:usize,rs:usize,threads:usize){
    let hs: Vec<_> = (0..threads).map(|_| std::thread::spawn(move || {
    let a=vec![1f32;m*k.max(rs)+k]; let b=vec![1f32;k*n]; let mut c=vec![0f32;m*n];
    let reps = (4e9 / (2.0*m as f64*n as f64*k as f64)) as usize + 1;
    let t=Instant::now();
    for _ in 0..reps { unsafe{ gemm::gemm(m,n,k,c.as_mut_ptr(),1,n as isize,false,a.as_ptr(),1,rs as isize,b.as_ptr(),1,n as isize,1f32,1f32,false,false,false,gemm::Parallelism::None);} }
    2.0*(m*n*k*reps) as f64/t.elapsed().as_secs_f64()/1e9})).collect();
    let r: Vec<f64> = hs.into_iter().map(|h| h.join().unwrap()).collect();
    println!("{m}x{n}x{k} rs {rs}: {r:?} GFLOP/s");
}
fn main(){ for t in [1,2]{ g(1024,1024,1024,1024,t); g(316,48,240,48,t); g(316,64,192,64,t); g(316,32,240,32,t); g(4096,48,240,48,t); g(256,1024,256,256,t); g(64,1024,256,256,t);} 
    println!("avx512 {}", is_x86_feature_detected!("avx512f")); }
