// Not compiled or run by this project's tests: they have no crates. Written for ort 2.0.0-rc.12.
//
// Explains a picture with a file that `onnxcam compile --raw` made.
//
//     cargo run --release -- model.explained.onnx photo.ppm map.pgm [class]
//
// The picture is a PPM (P6); any decoder's rows of RGB bytes do as well. The map on the picture is written as a PGM (P5).
use std::{env, error::Error, fs};

use ort::{session::Session, value::Tensor};

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().collect();
    let [_, model, photo, out, class @ ..] = words.as_slice() else {
        return Err("usage: explain MODEL PICTURE.ppm MAP.pgm [CLASS]".into());
    };
    let target: i64 = class.first().map_or(Ok(-1), |text| text.parse())?; // -1: the prediction
    let (pixels, height, width) = read_ppm(photo)?;

    let mut session = Session::builder()?.commit_from_file(model)?;
    let results = session.run(ort::inputs! {
        "picture" => Tensor::from_array(([height, width, 3], pixels))?,
        "target" => Tensor::from_array(([1_usize], vec![target]))?,
    })?;
    let (_, map) = results["saliency_picture"].try_extract_tensor::<f32>()?; // in [0,1], row by row
    let (_, explained) = results["saliency_target"].try_extract_tensor::<i64>()?;

    let mut bytes = format!("P5\n{width} {height}\n255\n").into_bytes();
    bytes.extend(map.iter().map(|value| (value * 255.0).round() as u8));
    fs::write(out, bytes)?;
    println!("class {}", explained[0]);
    Ok(())
}

/// Rows of RGB bytes, height and width.
fn read_ppm(path: &str) -> Result<(Vec<u8>, usize, usize), Box<dyn Error>> {
    let bytes = fs::read(path)?;
    let mut words = bytes.splitn(5, u8::is_ascii_whitespace);
    let mut word = || words.next().ok_or("the file ends in its header");
    let number = |word: &[u8]| -> Result<usize, Box<dyn Error>> { Ok(std::str::from_utf8(word)?.parse()?) };
    let kind = word()?;
    let (width, height, largest) = (number(word()?)?, number(word()?)?, number(word()?)?);
    if kind != b"P6" || largest != 255 {
        return Err(format!("{path} is no PPM of 8 bits (P6)").into());
    }
    Ok((word()?.to_vec(), height, width))
}
