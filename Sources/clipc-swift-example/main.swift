// Runs a `.clipc` file, from Swift: an image and a text, or what the image shows.
//
//   clipc-swift-example MODEL.clipc [PIXELS]
//
// PIXELS holds float32 `[channels, height, width]` as `clipc preprocess` makes them; without it a
// pattern is drawn. A model that knows classes by itself prints their probabilities for the image,
// one a line. Others print the embeddings of the image and of a text, the start token followed by the
// end token. `Sources/clipc-c-example` does the same in C.

import ClipRuntime
import Foundation
import ModelFormat

/// A number as C's `%.9g` prints it, which loses nothing.
func text(_ value: Float) -> String { String(format: "%.9g", Double(value)) }

/// The pixels of one image: those of a file, or a pattern.
func pixels(_ path: String?, count: Int) throws -> [Float] {
  guard let path else { return (0..<count).map { Float($0 % 97) / 48 - 1 } }
  let data = try Data(contentsOf: URL(fileURLWithPath: path))
  guard data.count == 4 * count else { fail("PIXELS has another size") }
  return data.withUnsafeBytes { bytes in
    (0..<count).map { bytes.loadUnaligned(fromByteOffset: 4 * $0, as: Float.self) }
  }
}

/// Ends the program with a sentence.
func fail(_ reason: String) -> Never {
  FileHandle.standardError.write(Data("clipc-swift-example: \(reason)\n".utf8))
  exit(1)
}

/// Prints what the model makes of its inputs.
func run(_ path: String, pixelsPath: String?) throws {
  let file = try MappedModel(path: path)
  let model = file.model
  let info = model.info
  var interpreter = try Interpreter(
    model, limits: Limits(imageCount: 1, textCount: 1, tokenCount: info.contextLength),
    threadCount: 2)
  var embedding = [Float](repeating: 0, count: info.embeddingWidth)

  if model.reader.imageProgram != nil {
    let pixels = try pixels(pixelsPath, count: model.pixelCount)
    var span = embedding.mutableSpan
    try interpreter.encodeImages(pixels.span, count: 1, into: &span)
    if let labels = model.labels {
      var probabilities = [Float](repeating: 0, count: labels.count)
      var span = probabilities.mutableSpan
      try model.classify(embedding.span, classes: labels.embeddings.span, into: &span)
      for index in 0..<labels.count { print(labels.name(index), text(probabilities[index])) }
    } else {
      print("image", embedding.map(text).joined(separator: " "))
    }
  }
  if model.reader.textProgram != nil, model.labels == nil {
    let ids = [Int32(info.startToken), Int32(info.endToken)].prefix(info.contextLength)
    var span = embedding.mutableSpan
    try interpreter.encodeTexts(Array(ids).span, count: 1, tokenCount: ids.count, into: &span)
    print("text", embedding.map(text).joined(separator: " "))
  }
}

let arguments = CommandLine.arguments.dropFirst()
guard let path = arguments.first, arguments.count <= 2 else {
  fail("usage: MODEL.clipc [PIXELS]")
}
do { try run(path, pixelsPath: arguments.dropFirst().first) } catch { fail("\(error)") }
