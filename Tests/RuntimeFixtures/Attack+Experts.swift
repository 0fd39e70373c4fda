import ModelFormat

extension Attack {
  /// Attacks on mixtures of experts.
  static func experts(_ file: [UInt8]) -> [Attack] {
    let image = Forgery(file: file, tower: .image)
    let instructions = Attack.expertVictim.parts().image?.instructions ?? []
    func index(_ code: OpCode) -> Int { instructions.firstIndex { $0.opCode == code } ?? 0 }
    let (route, up, sum) = (index(.routeTokens), index(.expertLinear), index(.combineExperts))
    return routes(image, route) + buffers(image, route)
      + products(image, up, order: image.buffer(route, 4), places: image.buffer(route, 2))
      + sums(image, sum, route) + words(image, up)
  }

  private static func routes(_ image: Forgery, _ route: Int) -> [Attack] {
    func number(_ name: String, _ operand: Int, _ value: UInt32) -> Attack {
      image(name, route, .parameter(operand: operand, found: value), [operand: value])
    }
    let (places, gates, order) = (
      image.buffer(route, 2), image.buffer(route, 3), image.buffer(route, 4)
    )
    return [
      number("route-top-k", 5, 4), number("route-top-k-huge", 5, .max),
      number("route-capacity-huge", 6, 65_537), number("route-normalized", 7, 2),
      image("route-capacity-none", route, .parameter(operand: 6, found: 0), [5: 0, 6: 0]),
      image("route-capacity-less", route, .bufferRows(buffer: order), [6: 1]),
      image(
        "route-experts-choose", route,
        .bufferColumns(buffer: places, expected: 3, found: 2), [5: 0]),
      image(
        "route-logits-indices", route + 1, .bufferType(buffer: places),
        [1: UInt32(places)]),
      image("route-places-twice", route, .writtenTwice(buffer: places), [4: UInt32(places)]),
      image("route-places-of-floats", route, .bufferType(buffer: gates), [2: UInt32(gates)]),
      image(
        "route-gates-of-indices", route, .writtenTwice(buffer: places), [3: UInt32(places)]),
      image("route-places-missing", route, .noSuchBuffer(found: 1000), [2: 1000]),
    ]
  }

  /// What the buffers of a route may be.
  private static func buffers(_ image: Forgery, _ route: Int) -> [Attack] {
    let (places, order) = (image.buffer(route, 2), image.buffer(route, 4))
    func fault(
      _ name: String, _ expected: ModelError, _ edit: (inout [UInt8]) -> Void
    ) -> Attack { Attack(name, image.file, .imageProgram, expected, edit) }
    func start(_ buffer: Int) -> Int { 32 + buffer * 24 }
    return [
      fault("indices-scale", .buffer(.image, index: order, .quantization)) {
        $0.put(Float(1).bitPattern, at: start(order) + 12)
      },
      fault(
        "order-as-floats", .instruction(.image, index: route, .bufferType(buffer: order))
      ) { $0[start(order)] = StoredType.float32.rawValue },
      fault(
        "order-narrow",
        .instruction(
          .image, index: route, .bufferColumns(buffer: order, expected: 3, found: 2))
      ) { $0.put(UInt32(2), at: start(order) + 8) },
      fault(
        "order-fewer", .instruction(.image, index: route, .bufferRows(buffer: order))
      ) { $0.put(UInt32(1), at: start(order) + 4) },
      fault(
        "places-fewer", .instruction(.image, index: route, .bufferRows(buffer: places))
      ) { $0.put(UInt32(2), at: start(places) + 4) },
      fault(
        "slots-of-images", .buffer(.image, index: order, .rowRule(found: 2))
      ) { $0[start(order) + 1] = 2 },
    ]
  }

  private static func products(
    _ image: Forgery, _ up: Int, order: Int, places: Int
  ) -> [Attack] {
    let (input, output) = (image.buffer(up, 1), image.buffer(up, 3))
    return [
      image("experts-of-indices", up, .bufferType(buffer: order), [1: UInt32(order)]),
      image("experts-order-of-floats", up, .bufferType(buffer: input), [2: UInt32(input)]),
      image("experts-order-of-places", up, .bufferType(buffer: places), [2: UInt32(places)]),
      image(
        "experts-order-unwritten", up, .readBeforeWritten(buffer: output), [2: UInt32(output)]),
      image("experts-activation", up, .parameter(operand: 4, found: 9), [4: 9]),
      image("experts-ordered", up, .parameter(operand: 5, found: 2), [5: 2]),
      image("experts-ordered-tokens", up, .bufferRows(buffer: input), [5: 1]),
      image("experts-row-scale-of-codes", up, .bufferType(buffer: 0), [6: 0]),
      image("experts-weight-missing", up, .noSuchTensor(found: .max), [11: .max]),
      image(
        "experts-weight-of-vector", up, .tensorType(tensor: image.buffer(up, 9)),
        [11: image.word(up, 9)]),
      image("experts-scale-missing", up, .optionalTensor(operand: 12), [12: Layout.absent]),
      image("experts-correction-missing", up, .optionalTensor(operand: 13), [13: Layout.absent]),
      image(
        "experts-weight-of-other-shape", up,
        .tensorShape(
          tensor: image.buffer(up + 1, 7), expectedRows: 4, expectedColumns: 4),
        [11: image.word(up + 1, 7)]),
    ]
  }

  private static func sums(_ image: Forgery, _ sum: Int, _ route: Int) -> [Attack] {
    let (input, places) = (image.buffer(sum, 1), image.buffer(sum, 2))
    let order = image.buffer(route, 4)
    return [
      image("combine-order", sum, .bufferType(buffer: order), [2: UInt32(order)]),
      image("combine-floats", sum, .bufferType(buffer: input), [2: UInt32(input)]),
      image("combine-input-indices", sum, .bufferType(buffer: places), [1: UInt32(places)]),
      image("combine-gates-rows", sum, .bufferRows(buffer: input), [3: UInt32(input)]),
      image("combine-residual-rows", sum, .bufferRows(buffer: input), [5: UInt32(input)]),
    ]
  }

  /// Lists of experts that are longer or shorter than they should be.
  private static func words(_ image: Forgery, _ up: Int) -> [Attack] {
    let code = UInt32(OpCode.expertLinear.rawValue)
    return [
      image(
        "experts-none", up, .wordCount(expected: 11, found: 7), [0: code | 7 << 16]),
      image(
        "experts-uneven", up, .wordCount(expected: 11, found: 18), [0: code | 18 << 16]),
      fewer(image, up),
    ]
  }

  /// One expert less than the router has.
  private static func fewer(_ image: Forgery, _ up: Int) -> Attack {
    Attack(
      "experts-fewer", image.file, .imageProgram,
      .instruction(.image, index: up, .wordCount(expected: 19, found: 15))
    ) { bytes in
      let start = FileEditor(image.file).instruction(up, .imageProgram)
      bytes.put(UInt16(15), at: start + 2)
      bytes.removeSubrange((start + 60)..<(start + 76))
    }
  }
}
