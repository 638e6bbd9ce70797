// Explains a picture with a file that `onnxcam compile --raw` made, with OpenVINO alone.
//
//     ./explain_openvino model.explained.onnx photo.ppm overlay.ppm [class [map.pfm]]
#include <cstdio>
#include <exception>
#include <openvino/openvino.hpp>

#include "picture.hpp"

int main(int count, char** words) try {
  if (count < 4) throw std::runtime_error("usage: explain_openvino MODEL PICTURE.ppm OVERLAY.ppm [CLASS [MAP.pfm]]");
  ov::Core core;
  ov::CompiledModel model = core.compile_model(words[1], "CPU", ov::hint::inference_precision(ov::element::f32));

  Picture picture = read_ppm(words[2]);
  int64_t target = count > 4 ? std::stoll(words[4]) : -1;  // -1: the prediction
  const ov::Shape shape{static_cast<size_t>(picture.height), static_cast<size_t>(picture.width), 3};
  ov::InferRequest request = model.create_infer_request();
  request.set_tensor("picture", ov::Tensor(ov::element::u8, shape, picture.rgb.data()));
  request.set_tensor("target", ov::Tensor(ov::element::i64, {1}, &target));
  request.infer();

  write_ppm(words[3], overlay(picture, request.get_tensor("saliency_picture").data<const float>()));
  if (count > 5) {
    const ov::Tensor map = request.get_tensor("saliency_map");  // maps, rows, columns
    write_pfm(words[5], map.data<const float>(), map.get_shape()[1], map.get_shape()[2]);
  }
  std::printf("class %lld\n", static_cast<long long>(*request.get_tensor("saliency_target").data<const int64_t>()));
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
