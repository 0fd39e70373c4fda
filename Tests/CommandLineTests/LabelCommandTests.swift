import Foundation
import Testing

/// Files that classify by themselves.
@Suite struct LabelCommandTests {
  let model = Program.demo + "/model"
  let labels = "red circle,blue star,green heart,pink ring"

  var pictures: [String] {
    get throws {
      let folder = Program.demo + "/pictures"
      return try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
        .map { "\(folder)/\($0)" }
    }
  }

  /// Probability and cosine of every label, by image and label.
  func answers(_ arguments: [String]) throws -> [String: [Double]] {
    let answer = try Program.run(["classify"] + arguments + pictures + ["--json"])
    #expect(answer.code == 0, "\(answer.errors)")
    let images = try #require(try answer.json()["images"] as? [[String: Any]])
    var found: [String: [Double]] = [:]
    for image in images {
      let path = try #require(image["image"] as? String)
      for label in try #require(image["labels"] as? [[String: Any]]) {
        found["\(path) \(try #require(label["label"] as? String))"] = [
          try #require(label["probability"] as? Double), try #require(label["cosine"] as? Double),
        ]
      }
    }
    return found
  }

  func quantized(_ scratch: Scratch) throws -> String {
    let path = scratch.path("q.h5")
    _ = try Program.json(
      "quantize", model, "-o", path, "--activations", "int8", "--data",
      Program.demo + "/shards-{0000..0001}.tar", "--calibration-samples", "32")
    return path
  }

  @Test(arguments: [false, true])
  func aTowerAloneClassifiesAsTheWholeFile(_ isQuantized: Bool) throws {
    let scratch = try Scratch()
    let source = isQuantized ? try quantized(scratch) : model
    let (full, alone) = (scratch.path("full.clipc"), scratch.path("alone.clipc"))
    let templates = ["--templates", Program.demo + "/templates.txt"]
    _ = try Program.json("export", source, "-o", full)
    let export = try Program.run(
      ["export", source, "-o", alone, "--tower", "image", "--labels", labels, "--json"] + templates)
    #expect(try export.json()["labels"] as? Int == 4)
    #expect(try Program.run(["verify", alone]).code == 0)
    let expected = try answers([full, "--labels", labels] + templates)
    let found = try answers([alone])
    #expect(found.count == 4 * (try pictures.count))
    #expect(Set(found.keys) == Set(expected.keys))
    for (key, values) in found {
      for (value, other) in zip(values, try #require(expected[key])) {
        #expect(abs(value - other) <= 1.01e-6, "\(key)")
      }
    }
  }

  @Test func labelsOfTheCommandLineGoBeforeThoseOfTheFile() throws {
    let scratch = try Scratch()
    let file = scratch.path("both.clipc")
    let list = try scratch.file("labels.txt", labels.replacingOccurrences(of: ",", with: "\n"))
    _ = try Program.json("export", model, "-o", file, "--labels", "@\(list)")
    #expect(try answers([file]) == answers([file, "--labels", labels]))
    #expect(try answers([file, "--labels", "red circle,blue square"]).count == 2 * pictures.count)
  }

  @Test func inspectShowsLabels() throws {
    let scratch = try Scratch()
    let file = scratch.path("m.clipc")
    _ = try Program.json("export", model, "-o", file, "--tower", "image", "--labels", labels)
    let answer = try Program.json("inspect", file)
    let shown = try #require(answer["labels"] as? [String: Any])
    #expect(shown["count"] as? Int == 4)
    #expect(shown["first"] as? [String] == labels.split(separator: ",").map(String.init))
    let steps = try #require(answer["provenance"] as? [[String: Any]])
    #expect(steps.last?["pass"] as? String == "labels")
    let options = try #require(steps.last?["options"] as? [String: String])
    #expect(options["templates"] == "a photo of a {}.")
    let text = try Program.run(["inspect", file]).output
    #expect(text.contains("4: red circle, blue star, green heart, pink ring"))
  }

  @Test func evalTakesTheFilesLabelsWhereTheyAreTheClasses() throws {
    let scratch = try Scratch()
    let (full, alone) = (scratch.path("full.clipc"), scratch.path("alone.clipc"))
    let data = Program.demo + "/test"
    let classes = try FileManager.default.contentsOfDirectory(atPath: data).sorted()
      .filter { !$0.contains(".") }.map { $0.replacingOccurrences(of: "_", with: " ") }
    _ = try Program.json("export", model, "-o", full)
    _ = try Program.json(
      "export", model, "-o", alone, "--tower", "image", "--labels",
      classes.reversed().joined(separator: ","))
    let expected = try Program.json("eval", full, "--data", data)
    let found = try Program.json("eval", alone, "--data", data)
    #expect(found["top1"] as? Double == expected["top1"] as? Double)
    #expect(found["samples"] as? Int == expected["samples"] as? Int)

    let fewer = scratch.path("fewer.clipc")
    _ = try Program.json(
      "export", model, "-o", fewer, "--tower", "image", "--labels",
      classes.dropLast().joined(separator: ","))
    let refused = try Program.run(["eval", fewer, "--data", data])
    #expect(refused.code == 65 && refused.errors.contains("no label for the class"))
    let more = scratch.path("more.clipc")
    _ = try Program.json(
      "export", model, "-o", more, "--tower", "image", "--labels",
      (classes + ["purple cow"]).joined(separator: ","))
    let other = try Program.run(["eval", more, "--data", data])
    #expect(other.code == 65 && other.errors.contains("'purple cow' is no class"))
  }

  @Test func whatCannotBeIsASentence() throws {
    let scratch = try Scratch()
    let (plain, alone) = (scratch.path("plain.clipc"), scratch.path("alone.clipc"))
    _ = try Program.json("export", model, "-o", plain)
    _ = try Program.json("export", model, "-o", alone, "--tower", "image", "--labels", labels)
    let image = try pictures[0]
    for (arguments, code, words) in [
      (["classify", plain, image], 64, "give --labels"),
      (["classify", model, image], 64, "give --labels"),
      (["classify", alone, "--labels", "a,b", image], 64, "no text tower"),
      (["classify", alone, "--templates", "x", image], 64, "--templates goes with --labels"),
      (["classify", plain, "--labels", "@/nowhere.txt", image], 66, "/nowhere.txt"),
      (["export", model, "-o", scratch.path("x"), "--labels", "a"], 64, "two labels"),
      (["export", model, "-o", scratch.path("x"), "--templates", "x"], 64, "--labels"),
      (["eval", alone, "--data", Program.demo + "/test", "--templates", "x"], 64, "text tower"),
    ] as [([String], Int32, String)] {
      let answer = try Program.run(arguments)
      #expect(answer.code == code, "\(arguments)")
      #expect(answer.errors.contains(words), "\(answer.errors)")
      #expect(answer.errors.split(separator: "\n").count == 1)
    }
  }
}
