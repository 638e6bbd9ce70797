// Pictures without a library: reads and writes PPM (P6), writes PFM, and draws a saliency map over a picture.
// Any decoder's rows of RGB bytes do as well: fill a Picture from stb_image, libjpeg-turbo or OpenCV.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

struct Picture {
  int64_t height = 0, width = 0;
  std::vector<uint8_t> rgb;  // height x width x 3, row by row
};

// A number of a PPM's header, after blanks and comments.
inline int64_t header_number(std::istream& file) {
  while ((file >> std::ws) && file.peek() == '#') file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  int64_t number = 0;
  file >> number;
  return number;
}

inline Picture read_ppm(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string kind(2, ' ');
  file.read(kind.data(), 2);
  Picture picture;
  picture.width = header_number(file);
  picture.height = header_number(file);
  const bool bytes = header_number(file) == 255;
  const int64_t most = int64_t{1} << 15;
  if (!file || kind != "P6" || !bytes || std::min(picture.width, picture.height) < 1 ||
      std::max(picture.width, picture.height) > most) {
    throw std::runtime_error(path + " is no PPM of 8 bits (P6); README.md has a line that makes one of a JPEG or PNG");
  }
  file.ignore(1);
  picture.rgb.resize(static_cast<size_t>(picture.height * picture.width * 3));
  file.read(reinterpret_cast<char*>(picture.rgb.data()), static_cast<std::streamsize>(picture.rgb.size()));
  if (!file) throw std::runtime_error(path + " ends too early");
  return picture;
}

inline void write_ppm(const std::string& path, const Picture& picture) {
  std::ofstream file(path, std::ios::binary);
  file << "P6\n" << picture.width << ' ' << picture.height << "\n255\n";
  file.write(reinterpret_cast<const char*>(picture.rgb.data()), static_cast<std::streamsize>(picture.rgb.size()));
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

// A map as numbers: float32, the lowest row first, as PFM has it. For a processor that is little-endian.
inline void write_pfm(const std::string& path, const float* map, int64_t height, int64_t width) {
  std::ofstream file(path, std::ios::binary);
  file << "Pf\n" << width << ' ' << height << "\n-1.0\n";
  for (int64_t row = height - 1; row >= 0; --row) {
    file.write(reinterpret_cast<const char*>(map + row * width), static_cast<std::streamsize>(width * sizeof(float)));
  }
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

// The picture with a map over it: blue where it is 0, over green, to red where it is 1. map: height x width, in [0,1].
inline Picture overlay(const Picture& picture, const float* map) {
  Picture shown = picture;
  for (size_t i = 0; i < shown.rgb.size(); ++i) {
    const float centre = 0.75f - 0.25f * static_cast<float>(i % 3);  // of red, green, blue
    const float color = std::clamp(1.5f - std::abs(4 * (map[i / 3] - centre)), 0.0f, 1.0f);
    shown.rgb[i] = static_cast<uint8_t>(std::lround(0.5f * static_cast<float>(picture.rgb[i]) + 0.5f * 255 * color));
  }
  return shown;
}
