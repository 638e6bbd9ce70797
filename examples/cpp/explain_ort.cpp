// Explains a picture with a file that `onnxcam compile --raw` made, with ONNX Runtime alone.
//
//     ./explain_ort model.explained.onnx photo.ppm overlay.ppm [class [map.pfm]]
#include <onnxruntime_cxx_api.h>

#include <array>
#include <cstdio>
#include <exception>
#include <filesystem>

#include "picture.hpp"

int main(int count, char** words) try {
  if (count < 4) throw std::runtime_error("usage: explain_ort MODEL PICTURE.ppm OVERLAY.ppm [CLASS [MAP.pfm]]");
  Ort::Env environment(ORT_LOGGING_LEVEL_WARNING, "explain");
  Ort::Session session(environment, std::filesystem::path(words[1]).c_str(), Ort::SessionOptions());

  Picture picture = read_ppm(words[2]);
  int64_t target = count > 4 ? std::stoll(words[4]) : -1;  // -1: the prediction
  const std::array<int64_t, 3> shape{picture.height, picture.width, 3};
  const std::array<int64_t, 1> one{1};
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const std::array<Ort::Value, 2> values{
      Ort::Value::CreateTensor<uint8_t>(memory, picture.rgb.data(), picture.rgb.size(), shape.data(), shape.size()),
      Ort::Value::CreateTensor<int64_t>(memory, &target, 1, one.data(), one.size()),
  };
  const std::array<const char*, 2> inputs{"picture", "target"};
  const std::array<const char*, 3> outputs{"saliency_target", "saliency_picture", "saliency_map"};
  const auto results = session.Run(
      Ort::RunOptions(), inputs.data(), values.data(), values.size(), outputs.data(), outputs.size());

  write_ppm(words[3], overlay(picture, results[1].GetTensorData<float>()));
  if (count > 5) {
    const auto sides = results[2].GetTensorTypeAndShapeInfo().GetShape();  // maps, rows, columns
    write_pfm(words[5], results[2].GetTensorData<float>(), sides[1], sides[2]);
  }
  std::printf("class %lld\n", static_cast<long long>(*results[0].GetTensorData<int64_t>()));
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
