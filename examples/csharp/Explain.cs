// Not compiled or run by this project's tests: they have no .NET. Written for Microsoft.ML.OnnxRuntime 1.23 and .NET 8.
//
// Explains a picture with a file that `onnxcam compile --raw` made.
//
//     dotnet run -- model.explained.onnx photo.ppm map.pgm [class]
//
// The picture is a PPM (P6); any decoder's rows of RGB bytes do as well. The map on the picture is written as a PGM (P5).
using System.Text;
using System.Text.RegularExpressions;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;

var (pixels, height, width) = ReadPpm(args[1]);
var target = args.Length > 3 ? long.Parse(args[3]) : -1; // -1: the prediction

using var session = new InferenceSession(args[0]);
using var results = session.Run(new[]
{
    NamedOnnxValue.CreateFromTensor("picture", new DenseTensor<byte>(pixels, new[] { height, width, 3 })),
    NamedOnnxValue.CreateFromTensor("target", new DenseTensor<long>(new[] { target }, new[] { 1 })),
});
var map = results.First(result => result.Name == "saliency_picture").AsEnumerable<float>(); // in [0,1], row by row
var explained = results.First(result => result.Name == "saliency_target").AsEnumerable<long>().First();

var header = Encoding.ASCII.GetBytes($"P5\n{width} {height}\n255\n");
File.WriteAllBytes(args[2], header.Concat(map.Select(value => (byte)Math.Round(value * 255))).ToArray());
Console.WriteLine($"class {explained}");

static (byte[] Pixels, int Height, int Width) ReadPpm(string path)
{
    var bytes = File.ReadAllBytes(path);
    var header = Regex.Match(Encoding.Latin1.GetString(bytes, 0, Math.Min(bytes.Length, 64)), @"^P6\s+(\d+)\s+(\d+)\s+255\s");
    if (!header.Success) throw new InvalidDataException($"{path} is no PPM of 8 bits (P6)");
    var (width, height) = (int.Parse(header.Groups[1].Value), int.Parse(header.Groups[2].Value));
    return (bytes[header.Length..], height, width);
}
