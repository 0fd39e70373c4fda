/// What a run of training came to.
struct TrainingSummary {
  var steps: Int
  var seconds: Double
  var imagesPerSecond: Double
  var loss: Double
  var teacherAccuracy: Double?
  var accuracy: Double?
  var parametersBefore: Int
  var parametersAfter: Int
  /// The share of the prunable weights that masks hide.
  var prunedShare: Double
  var notes: [String]

  var lines: [String] {
    var lines = notes
    let share = Double(parametersAfter) / Double(max(parametersBefore, 1))
    lines.append(
      "parameters of the towers: \(parametersBefore) of the teacher, \(parametersAfter) of the "
        + "student (\((share * 1000).rounded() / 10) %)")
    if prunedShare > 0 {
      lines.append("masked: \((prunedShare * 1e5).rounded() / 1e3) % of the weights between layers")
    }
    let time = (seconds * 10).rounded() / 10
    lines.append(
      "\(steps) steps in \(time) s, \(Int(imagesPerSecond)) images a second, last loss "
        + "\((loss * 1e4).rounded() / 1e4)")
    if let accuracy {
      let teacher = teacherAccuracy.map { ", teacher \($0)" } ?? ""
      lines.append("zero-shot top-1 on the validation data: \(accuracy)\(teacher)")
    }
    return lines
  }

  /// Prints what came of the run.
  func show(asJSON: Bool, output: String) {
    guard !asJSON else { return Terminal.print(json(output: output).text) }
    for line in lines { Terminal.print(printable(line)) }
    Terminal.print("wrote \(printable(output))")
  }

  func json(output: String) -> JSON {
    .object([
      ("output", .text(output)), ("steps", .integer(steps)), ("seconds", .number(seconds)),
      ("images_per_second", .number(imagesPerSecond)), ("loss", .number(loss)),
      ("validation_top1", accuracy.map { .number($0) } ?? .null),
      ("teacher_validation_top1", teacherAccuracy.map { .number($0) } ?? .null),
      ("parameters_before", .integer(parametersBefore)),
      ("parameters_after", .integer(parametersAfter)),
      ("sparsity", prunedShare > 0 ? .number(prunedShare) : .null),
    ])
  }
}
